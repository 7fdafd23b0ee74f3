"""Images, as the registry shows them to the user whose token it is."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol
from uuid import UUID

import httpx
from pydantic import BaseModel, StringConstraints, field_validator

from shared.errors import NotFound
from shared.http import call


class ImageApp(BaseModel):
    """path: what a browser opens, beneath the instance's own root."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    path: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_@-][A-Za-z0-9._@/-]{0,199})?$")]


class Image(BaseModel):
    """address: its name, with the host of its registry where it stands in one. digest: of the
    bytes; in a registry, of the manifest. cuda: empty for images without it."""

    id: UUID
    name: str
    address: str
    digest: str | None = None
    cuda: str = ""
    status: str
    apps: list[ImageApp] = []

    @property
    def exact_address(self) -> str:
        """What a node is told: from a registry it pulls the very bytes that were ready."""
        host, slash, _ = self.address.partition("/")
        in_registry = bool(slash) and ("." in host or ":" in host or host == "localhost")
        if in_registry and self.digest and self.digest.startswith("sha256:"):
            return f"{self.address}@{self.digest}"
        return self.address

    @field_validator("cuda", mode="before")
    @classmethod
    def _no_cuda(cls, value: Any) -> Any:
        return "" if value is None else value


@dataclass(frozen=True, slots=True)
class NewImage:
    """node_id: the host that makes it."""

    image_id: UUID
    name: str
    source_image_id: UUID
    instance_id: UUID
    node_id: UUID


class RegistryClient(Protocol):
    async def get_image(self, image_id: UUID, *, token: str) -> Image:
        """Raises RemoteRefusal (404 when it is not there or not the user's), Unavailable."""
        ...

    async def create_image(self, new: NewImage, *, token: str) -> Image:
        """A place for an image that an instance is to become; idempotent by its id."""
        ...


class HttpRegistry:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def get_image(self, image_id: UUID, *, token: str) -> Image:
        response = await call(self._http, "GET", f"/api/v1/images/{image_id}", token=token)
        return Image.model_validate(response.json())

    async def create_image(self, new: NewImage, *, token: str) -> Image:
        body = {
            "image_id": str(new.image_id),
            "name": new.name,
            "source_image_id": str(new.source_image_id),
            "instance_id": str(new.instance_id),
            "node_id": str(new.node_id),
        }
        response = await call(self._http, "POST", "/internal/images", token=token, json=body)
        return Image.model_validate(response.json())


@dataclass
class FakeRegistry:
    images: dict[UUID, Image] = field(default_factory=dict)
    created: list[NewImage] = field(default_factory=list)

    async def get_image(self, image_id: UUID, *, token: str) -> Image:
        if image_id not in self.images:
            raise NotFound
        return self.images[image_id]

    async def create_image(self, new: NewImage, *, token: str) -> Image:
        self.created.append(new)
        address = f"chusuan/u/{new.image_id}:latest"
        image = Image(id=new.image_id, name=new.name, address=address, status="building")
        self.images[image.id] = image
        return image
