"""What the net disk's API takes and answers."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from services.storage.entries import Kind


class EntryView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    path: str
    kind: Kind
    size_bytes: int
    modified_at: datetime


class UsageView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    used_bytes: int
    quota_bytes: int
    used_files: int
    quota_files: int


class SftpView(BaseModel):
    """`sftp -P port username@address`; fingerprint: of the host key, as ssh shows it."""

    model_config = ConfigDict(from_attributes=True)

    address: str
    port: int
    fingerprint: str


class StorageView(BaseModel):
    """sftp: null where there is no such door."""

    sftp: SftpView | None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewFolder(_Request):
    path: str = Field(min_length=1, max_length=4096)


class Move(_Request):
    source: str = Field(min_length=1, max_length=4096)
    target: str = Field(min_length=1, max_length=4096)


class Quota(_Request):
    quota_bytes: int = Field(ge=0, le=1 << 60)
