"""Turns recipes into images on this host's engine: one at a time, in the order of the list that
the registry sends again and again. What is there already is only reported.

The registry names the builder of each image. One that names nobody yet is only offered: this host
says how it has it, and begins when it is named.

    python -m agent.building RECIPES NAME...    builds by hand, with what the names stand on
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

import structlog

from agent.base import BaseImage
from agent.engine import CommittedImage, EngineRefused, EngineUnavailable, Progress
from agent.hostfiles import host_files
from agent.imaging import DockerImages, ImageEngine
from agent.metrics import BUILDS
from agent.recipe import NoRecipe, folder_of, packed, read_recipe
from agent.settings import AgentSettings
from shared.bus import Bus, Undeliverable
from shared.events.agent import ImageReported, ImagesWanted, ImageWanted
from shared.events.envelope import Envelope

log = structlog.get_logger(__name__)

FIRST_RETRY_S = 10.0
LAST_RETRY_S = 600.0
LOOK_AGAIN_S = 30.0
REPORT_EVERY_S = 1.0
ASK_REGISTRY_S = 300.0


class Workshop:
    """Makes one image, and finds it. registry: HOST:PORT that images of such a name belong into;
    what is not there is not ready then, whatever this host has."""

    def __init__(
        self,
        images: ImageEngine,
        recipes: Path,
        base: BaseImage,
        network: str,
        registry: str = "",
    ) -> None:
        self.images = images
        self.recipes = recipes
        self._base = base
        self._network = network
        self._registry = registry

    async def find(self, reference: str) -> CommittedImage | None:
        """As it is ready for everyone: in the registry, where it belongs there, by its digest, and
        with size 0 unless this host has it too. Raises as the engine does."""
        if not self.belongs(reference):
            return await self.images.image(reference)
        digest = await self.images.registry_digest(reference)
        if digest is None:
            return None
        here = await self.images.image(f"{reference.rpartition(':')[0]}@{digest}")
        return CommittedImage(digest, here.size_bytes if here is not None else 0)

    async def has(self, reference: str) -> bool:
        """On this host, fetched where the registry has it."""
        images = self.images
        if await images.image(reference) is not None:
            return True
        if not self.belongs(reference) or await images.registry_digest(reference) is None:
            return False
        await images.pull(reference, lambda *_: None)
        return True

    async def make(
        self, recipe: str, reference: str, arguments: Mapping[str, str], progress: Progress
    ) -> CommittedImage:
        """Built where nobody has it yet, and pushed where it belongs. Raises NoRecipe,
        EngineRefused with the last lines, EngineUnavailable."""
        if not self.belongs(reference):
            return await self.build(recipe, reference, arguments, progress)
        if (found := await self.find(reference)) is not None:
            return found
        if await self.images.image(reference) is None:
            await self.build(recipe, reference, arguments, progress)
        return await self.images.push(reference, progress)

    def belongs(self, reference: str) -> bool:
        return bool(self._registry) and reference.startswith(f"{self._registry}/")

    async def build(
        self, recipe: str, reference: str, arguments: Mapping[str, str], progress: Progress
    ) -> CommittedImage:
        """Raises NoRecipe, EngineRefused with the last lines, EngineUnavailable."""
        folder = folder_of(self.recipes, recipe)
        if "BASE" not in arguments:
            arguments = {**arguments, "BASE": await self._base.ensure(progress)}
        host = await asyncio.to_thread(host_files)
        with packed(folder, host) as context:
            return await self.images.build(
                context, reference, arguments, network=self._network, progress=progress
            )


@dataclass(slots=True)
class _Work:
    """One wanted image as this host has it. not_before: monotonic; after a failure. known_until:
    monotonic; the registry's word counts so long."""

    wanted: ImageWanted
    state: Literal["building", "ready", "failed"] = "building"
    progress: float = 0.0
    message: str = ""
    image: CommittedImage | None = None
    failures: int = 0
    not_before: float = 0.0
    known_until: float = 0.0

    def report(self) -> ImageReported:
        return ImageReported(
            image_id=self.wanted.image_id,
            state=self.state,
            progress=self.progress,
            message=self.message,
            digest=self.image.digest if self.image else "",
            size_bytes=self.image.size_bytes if self.image else 0,
        )


@dataclass
class Builder:
    """source: how the registry knows this host by its reports."""

    workshop: Workshop
    bus: Bus
    source: str
    first_retry_s: float = FIRST_RETRY_S
    works: dict[UUID, _Work] = field(default_factory=dict)
    _wanted: list[ImageWanted] = field(default_factory=list)
    _making: tuple[UUID, asyncio.Task[CommittedImage]] | None = None
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until cancelled; a build that runs is given up then, its finished steps stay."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell())
            tasks.create_task(self._build_all())

    def take(self, wanted: ImagesWanted) -> None:
        """What another host builds is none of our business."""
        self._wanted = [i for i in wanted.images if i.builder in (None, self.source)]
        if self._making is not None:
            image_id, task = self._making
            if image_id not in {i.image_id for i in self._wanted}:
                task.cancel()
        self._asked.set()
        self._news.set()

    async def _tell(self) -> None:
        """All of it, whenever the registry asks or something moved."""
        while True:
            await self._news.wait()
            self._news.clear()
            for work in list(self.works.values()):
                with contextlib.suppress(Undeliverable):
                    report = work.report()
                    await self.bus.publish(Envelope.wrap(report, subject=report.image_id))
            # Build output comes in thousands of lines.
            await asyncio.sleep(REPORT_EVERY_S)

    async def _build_all(self) -> None:
        while True:
            self._asked.clear()
            try:
                await self._look()
                work = await self._due()
                if work is not None:
                    await self._build(work)
                    continue
            except (EngineUnavailable, EngineRefused) as error:
                log.warning("builder_engine_failed", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._asked.wait()

    async def _look(self) -> None:
        """What is wanted, and what of it is there. Nothing is told of an image before it was
        looked for: after a restart those that are there must not seem to be missing."""
        works: dict[UUID, _Work] = {}
        for wanted in self._wanted:
            work = works[wanted.image_id] = self._known(wanted)
            work.image = await self._found(work)
            if work.image is not None:
                work.state, work.progress, work.message, work.failures = "ready", 1.0, "", 0
            elif work.state == "ready":
                work.state, work.progress = "building", 0.0
        self.works = works
        self._news.set()

    async def _found(self, work: _Work) -> CommittedImage | None:
        """The registry is not asked at each message."""
        reference, now = work.wanted.reference, time.monotonic()
        if work.image is not None and self.workshop.belongs(reference) and now < work.known_until:
            return work.image
        work.known_until = now + ASK_REGISTRY_S
        return await self.workshop.find(reference)

    def _known(self, wanted: ImageWanted) -> _Work:
        work = self.works.get(wanted.image_id)
        if work is None or not _is_same(work.wanted, wanted):
            return _Work(wanted, message="waiting")
        work.wanted = wanted
        return work

    async def _due(self) -> _Work | None:
        """The first of ours that is missing, may be tried again and has what it stands on."""
        for work in self.works.values():
            if work.wanted.builder != self.source:
                continue
            if work.image is not None or work.not_before > time.monotonic():
                continue
            base = work.wanted.arguments.get("BASE")
            if base is None or await self.workshop.has(base):
                return work
            work.message = f"waiting for {base}"
        return None

    async def _build(self, work: _Work) -> None:
        def progress(share: float | None, words: str) -> None:
            work.progress = share if share is not None else work.progress
            work.message = words
            self._news.set()

        wanted = work.wanted
        work.state, work.progress, work.message = "building", 0.0, "starting"
        self._news.set()
        began = time.monotonic()
        log.info("image_build_started", reference=wanted.reference)
        task = asyncio.create_task(
            self.workshop.make(wanted.recipe, wanted.reference, wanted.arguments, progress)
        )
        self._making = (wanted.image_id, task)
        try:
            await asyncio.wait((task,))
            if task.cancelled():
                log.info("image_build_given_up", reference=wanted.reference)
                return
            work.image = task.result()
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        except (EngineRefused, EngineUnavailable, NoRecipe, OSError) as error:
            delay_s = min(LAST_RETRY_S, self.first_retry_s * 2**work.failures)
            work.failures += 1
            work.not_before = time.monotonic() + delay_s
            work.state, work.message = "failed", str(error)[-1500:]
            BUILDS.labels("failed").inc()
            log.warning("image_build_failed", reference=wanted.reference, error=str(error)[-1500:])
        else:
            work.state, work.progress, work.message, work.failures = "ready", 1.0, "", 0
            took_s = round(time.monotonic() - began, 1)
            BUILDS.labels("done").inc()
            log.info("image_built", reference=wanted.reference, took_s=took_s)
        finally:
            self._making = None
        self._news.set()


def _is_same(known: ImageWanted, wanted: ImageWanted) -> bool:
    """Whoever builds it."""
    return known.model_copy(update={"builder": wanted.builder}) == wanted


def workshop_of(
    settings: AgentSettings, images: ImageEngine, recipes: Path, registry: str = ""
) -> Workshop:
    base = BaseImage(images, settings.base_image)
    return Workshop(images, recipes, base, settings.build_network, registry)


async def _build_by_hand(settings: AgentSettings, recipes: Path, names: list[str]) -> None:
    def say(share: float | None, words: str) -> None:
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()

    images = DockerImages(settings.docker_host)
    workshop = workshop_of(settings, images, recipes)
    done: set[str] = set()

    async def build(name: str) -> str:
        recipe = read_recipe(recipes, name)
        arguments = {"BASE": await build(recipe.base)} if recipe.base is not None else {}
        if name not in done:
            began = time.monotonic()
            await workshop.build(name, recipe.reference, arguments, say)
            done.add(name)
            say(None, f"built {recipe.reference} in {time.monotonic() - began:.0f} s")
        return recipe.reference

    try:
        for name in names:
            await build(name)
    finally:
        await images.close()


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        sys.stderr.write("usage: python -m agent.building RECIPES NAME...\n")
        return 2
    try:
        asyncio.run(_build_by_hand(AgentSettings(), Path(arguments[0]), arguments[1:]))
    except (EngineRefused, EngineUnavailable, NoRecipe) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
