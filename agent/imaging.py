"""What building asks of a container engine, and Docker's answer: its own builder, no BuildKit."""

import json
import re
from collections.abc import Mapping
from typing import IO, Protocol

import aiohttp

from agent.answers import answers
from agent.docker import DockerEngine
from agent.engine import CommittedImage, EngineRefused, ImageMissing, Progress

# A step may be silent for long: a compiler, a big download.
SILENCE_S = 3600.0
KEPT_LINES = 12

_STEP = re.compile(r"Step (\d+)/(\d+) : ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ImageEngine(Protocol):
    """Every call raises EngineUnavailable or EngineRefused."""

    async def image(self, reference: str) -> CommittedImage | None: ...

    async def pull(self, image: str, progress: Progress) -> None: ...

    async def push(self, reference: str, progress: Progress) -> CommittedImage: ...

    async def registry_digest(self, reference: str) -> str | None:
        """What the registry has under that tag; None: nothing. Raises RegistryAway,
        RegistryRefused."""
        ...

    async def build(
        self,
        context: IO[bytes],
        reference: str,
        arguments: Mapping[str, str],
        *,
        network: str,
        progress: Progress,
    ) -> CommittedImage:
        """context: a tar with a Dockerfile. Refused with the last lines of its output. Ends with
        the caller: a build that nobody waits for is given up."""
        ...

    async def references(self, pattern: str) -> list[str]:
        """Names with tag or digest that match, as in `docker images PATTERN`."""
        ...

    async def untag(self, reference: str) -> None: ...


class DockerImages(DockerEngine):
    async def image(self, reference: str) -> CommittedImage | None:
        try:
            with answers():
                shown = await self._docker.images.inspect(reference)
        except ImageMissing:
            return None
        return CommittedImage(shown["Id"], int(shown["Size"]))

    async def build(
        self,
        context: IO[bytes],
        reference: str,
        arguments: Mapping[str, str],
        *,
        network: str,
        progress: Progress,
    ) -> CommittedImage:
        parameters = {
            "t": reference,
            "networkmode": network,
            "buildargs": json.dumps(dict(arguments)),
            "rm": "true",
            "forcerm": "true",
        }
        output = _Output(progress)
        with answers():
            # Not `images.build`: it knows no network mode.
            async with self._docker._query(
                "build",
                "POST",
                params=parameters,
                data=context,
                headers={"Content-Type": "application/x-tar"},
                timeout=aiohttp.ClientTimeout(sock_connect=5, sock_read=SILENCE_S),
            ) as response:
                async for line in response.content:
                    output.take(line)
        built = await self.image(reference)
        if built is None:
            raise EngineRefused(f"the build ended without {reference}:\n{output.end}")
        return built

    async def registry_digest(self, reference: str) -> str | None:
        return await self._transfer.digest(reference)

    async def references(self, pattern: str) -> list[str]:
        with answers():
            found = await self._docker.images.list(filters={"reference": [pattern]})
        return [
            name
            for image in found
            for name in (*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ()))
        ]


class _Output:
    """A build's lines: how far it is, and its last words."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: list[str] = []
        self._share = 0.0

    @property
    def end(self) -> str:
        return "\n".join(self._lines)

    def take(self, line: bytes) -> None:
        """Raises EngineRefused for Docker's own error line."""
        said = json.loads(line)
        if "error" in said:
            raise EngineRefused(f"{self.end}\n{said['error']}".strip())
        for words in _COLOUR.sub("", str(said.get("stream", ""))).splitlines():
            if not words.strip():
                continue
            self._lines = [*self._lines, words][-KEPT_LINES:]
            if step := _STEP.match(words):
                self._share = (int(step[1]) - 1) / int(step[2])
            self._progress(self._share, words[:300])
