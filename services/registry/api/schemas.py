"""What the image centre reads and answers."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from services.registry.domain.states import Kind, State
from services.registry.models import Image
from shared.text import Language


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("only printable characters / 只能包含可打印字符")
    return name


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, strip_whitespace=True),
    AfterValidator(_printable),
]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageChange(_Input):
    """What is missing stays as it is."""

    name: Name | None = None
    locked: bool | None = None


class NewImage(_Input):
    """A place for the image that `instance_id` is to become. source_image_id: what it was started
    from, whose framework and apps the new one inherits. node_id: the host that makes it."""

    image_id: UUID
    name: Name
    source_image_id: UUID
    instance_id: UUID
    node_id: UUID | None = None


class AppView(BaseModel):
    name: str
    path: str


class ImageView(BaseModel):
    """cuda: empty without CUDA. progress: 0..1 of building, where known. creator: a username, or
    `chusuan` for system images. address: what a host runs."""

    id: UUID
    name: str
    kind: Kind
    address: str
    framework: str
    framework_version: str
    python: str
    cuda: str
    apps: list[AppView]
    status: State
    progress: float | None
    message: str | None
    digest: str | None
    size_bytes: int | None
    locked: bool
    owner_id: UUID | None
    creator: str
    created_at: datetime
    source_image_id: UUID | None
    instance_id: UUID | None

    @classmethod
    def of(cls, image: Image, language: Language) -> Self:
        values = {name: getattr(image, name) for name in cls.model_fields}
        message = image.message[language] if image.message is not None else None
        return cls.model_validate({**values, "message": message})
