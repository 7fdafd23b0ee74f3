"""Images between this host's engine and the platform's registry, through Docker's own client."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiodocker
from aiodocker.utils import compose_auth_header
from pydantic import JsonValue, SecretStr

from agent.answers import answers, registry_answers
from agent.engine import (
    CommittedImage,
    EngineUnavailable,
    ImageMissing,
    Progress,
    RegistryAway,
)

# Not of the whole: a large image takes its time. Extraction of one layer may be silent for long.
SILENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """address: HOST:PORT as it stands before an image's name."""

    address: str
    username: str
    password: SecretStr

    def is_of(self, image: str) -> bool:
        return image.startswith(f"{self.address}/")


class Transfer:
    def __init__(self, docker: aiodocker.Docker, access: RegistryAccess | None) -> None:
        self._docker = docker
        self._access = access

    async def pull(self, image: str, progress: Progress) -> None:
        steps = self._docker.images.pull(image, auth=self._auth(image), stream=True)
        async for _ in self._followed(image, steps, progress):
            pass

    async def push(self, reference: str, progress: Progress) -> CommittedImage:
        name, _, tag = reference.rpartition(":")
        steps = self._docker.images.push(name, tag=tag, auth=self._auth(name), stream=True)
        digest = ""
        async for step in self._followed(reference, steps, progress):
            digest = (step.get("aux") or {}).get("Digest", digest)
        if not digest:
            raise EngineUnavailable(f"Docker ended the push of {reference} without a digest")
        with answers():
            shown = await self._docker.images.inspect(reference)
        return CommittedImage(digest, int(shown["Size"]))

    async def digest(self, reference: str) -> str | None:
        """The registry's, of what it has under that tag."""
        header = compose_auth_header(self._auth(reference) or {}, reference.partition("/")[0])
        try:
            with registry_answers(reference):
                found = await self._docker._query_json(
                    f"distribution/{reference}/json", headers={"X-Registry-Auth": header}
                )
        except ImageMissing:
            return None
        return str(found["Descriptor"]["digest"])

    def _auth(self, image: str) -> dict[str, JsonValue] | None:
        access = self._access
        if access is None or not access.is_of(image):
            return None
        return {"username": access.username, "password": access.password.get_secret_value()}

    async def _followed(
        self, image: str, steps: AsyncIterator[dict[str, Any]], progress: Progress
    ) -> AsyncIterator[dict[str, Any]]:
        """Each step, told; raises RegistryAway when none comes for long."""
        layers = _Layers()
        # Of a foreign registry nobody knows whether it will ever answer.
        with registry_answers(image) if self._auth(image) else answers():
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        step = await anext(steps, None)
                except TimeoutError:
                    raise RegistryAway(f"nothing moved for {SILENCE_S:.0f} s: {image}") from None
                if step is None:
                    return
                progress(layers.share(step), str(step.get("status", ""))[:200])
                yield step


class _Layers:
    """Bytes over all layers that told their size so far."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, float]] = {}

    def share(self, step: dict[str, Any]) -> float | None:
        detail = step.get("progressDetail") or {}
        total, current = detail.get("total"), detail.get("current", 0)
        if total:
            key = f"{step.get('id', '')} {step.get('status', '')}"
            self._told[key] = (min(current, total), total)
        if not self._told:
            return None
        done = sum(current for current, _ in self._told.values())
        return done / sum(total for _, total in self._told.values())
