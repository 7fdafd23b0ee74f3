"""What a backup holds, with a hash of everything.

A backup is a folder: `manifest.json`, `files.jsonl` (a line for each folder, file and link),
`databases/NAME.dump` and `files/`, where contents lie by number, since names are the tenants'.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.client import Trouble

FORMAT = 1
MANIFEST, FILES, CONTENTS, DATABASES = "manifest.json", "files.jsonl", "files", "databases"
CHUNK = 1 << 20


class Item(BaseModel):
    """path: within the home; bytes that are no UTF-8 as lone surrogates.
    content: of a file, its number. target: of a link.
    unsteady: it was written to while it was copied, each time it was tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: Literal["folder", "file", "link"]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    sha256: str = ""
    content: int | None = None
    target: str = ""
    unsteady: bool = False

    def line(self) -> str:
        return json.dumps(self.model_dump()) + "\n"


class Dump(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """made_at: the moment of which all databases tell. files_sha256: of `files.jsonl`.
    left_out: what is no file, folder or link, or lay too deep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    made_at: datetime
    databases: Mapping[str, Dump]
    files_sha256: str
    files: int
    bytes: int
    unsteady: int
    left_out: int


class BackupBroken(Trouble):
    def __init__(self, what: str) -> None:
        super().__init__(
            f"备份不完整：{what}。请使用另一份备份。",
            f"The backup is not whole: {what}. Use another.",
        )


def content_path(folder: Path, number: int) -> Path:
    """At most a thousand to a folder."""
    return folder / CONTENTS / f"{number // 1000:06d}" / f"{number:09d}"


def hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Raises BackupBroken."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BackupBroken(f"{folder / MANIFEST}: {error.strerror}") from error
    except ValidationError as error:
        raise BackupBroken(f"{MANIFEST}: {error.errors()[0]['msg']}") from error


def items(folder: Path) -> Iterator[Item]:
    with (folder / FILES).open() as lines:
        for line in lines:
            # Not pydantic's own reader of JSON, which refuses lone surrogates.
            yield Item.model_validate(json.loads(line))


def verify(folder: Path, manifest: Manifest) -> None:
    """Reads everything. Raises BackupBroken at the first thing that is not as it was."""
    try:
        if hash_of(folder / FILES) != manifest.files_sha256:
            raise BackupBroken(FILES)
        for name, dump in manifest.databases.items():
            if hash_of(folder / DATABASES / f"{name}.dump") != dump.sha256:
                raise BackupBroken(f"{DATABASES}/{name}.dump")
        for item in items(folder):
            if item.content is None:
                continue
            if hash_of(content_path(folder, item.content)) != item.sha256:
                raise BackupBroken(f"{CONTENTS}/… {item.path!a}")
    except OSError as error:
        raise BackupBroken(f"{error.filename}: {error.strerror}") from error
