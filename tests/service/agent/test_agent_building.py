"""Recipes become images on a real Docker Engine, and the registry is told of each step."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.base import BaseImage
from agent.building import REPORT_EVERY_S, Builder, Workshop, main
from agent.clearing import Clearing
from agent.engine import CommittedImage
from agent.hostfiles import USE
from agent.imaging import DockerImages
from agent.recipe import packed
from shared.bus import Bus, Subscription, open_bus
from shared.events.agent import ImageReported, ImagesWanted, ImageWanted
from shared.events.envelope import Envelope
from shared.ids import new_id
from tests.service.agent.conftest import docker

pytestmark = pytest.mark.docker

ME, OTHER = "node.me", "node.other"
GOOD = "FROM scratch\nCOPY . /\nLABEL one=1\n"
BAD = "FROM scratch\nCOPY what-is-not-there /\n"


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    try:
        docker("info")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Docker Engine")


@dataclass
class Registry:
    """The registry's side: says what is wanted, remembers what is reported. Names are its own, so
    that tests leave the machine's images alone."""

    bus: Bus
    recipes: Path
    images: DockerImages
    mark: str = field(default_factory=lambda: new_id().hex[-10:])
    reports: list[ImageReported] = field(default_factory=list)
    wanted: list[ImageWanted] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    builder: Builder | None = None
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, envelope: Envelope) -> None:
        async with self.arrived:
            self.reports.append(ImageReported.model_validate(envelope.data))
            self.arrived.notify_all()

    def write(self, name: str, dockerfile: str) -> None:
        (self.recipes / name).mkdir(exist_ok=True)
        (self.recipes / name / "Dockerfile").write_text(dockerfile)

    def want(self, name: str, **arguments: str) -> ImageWanted:
        reference = f"chusuan-test/{self.mark}-{name}:1"
        wanted = ImageWanted(
            image_id=new_id(), recipe=name, reference=reference, arguments=arguments
        )
        self.wanted.append(wanted)
        return wanted

    async def ask(self, *unwanted: str, builder: str | None = ME) -> None:
        images = [wanted.model_copy(update={"builder": builder}) for wanted in self.wanted]
        if self.builder is not None:
            self.builder.take(ImagesWanted(images=images, unwanted=list(unwanted)))

    def start(self) -> None:
        base = BaseImage(self.images, f"chusuan-test/{self.mark}-debian:12")
        workshop = Workshop(self.images, self.recipes, base, "none")
        self.builder = Builder(workshop, self.bus, ME, first_retry_s=0.2)
        self.task = asyncio.create_task(self.builder.run())

    async def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def told(
        self, wanted: ImageWanted, state: str, holds: Callable[[ImageReported], bool] | None = None
    ) -> ImageReported:
        """Asks again and again, as the registry does."""

        def found() -> ImageReported | None:
            for report in self.reports:
                if (report.image_id, report.state) == (wanted.image_id, state) and (
                    holds is None or holds(report)
                ):
                    return report
            return None

        async with asyncio.timeout(60):
            while (report := found()) is None:
                await self.ask()
                async with self.arrived:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await self.arrived.wait()
        return report


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    bus, images = open_bus(f"memory://{new_id()}"), DockerImages()
    house = Registry(bus, tmp_path, images)
    await bus.subscribe(Subscription("test.reports", (ImageReported.type,), house.take))
    house.write("debian", GOOD)
    with packed(tmp_path / "debian", {}) as context:
        name = f"chusuan-test/{house.mark}-debian:12"
        await images.build(context, name, {}, network="none", progress=lambda *_: None)
    house.start()
    yield house
    await house.end()
    for reference in await images.references(f"chusuan-test/{house.mark}-*"):
        await images.untag(reference)
    await images.close()


async def test_a_missing_image_is_built_and_reported_ready_with_its_digest(
    registry: Registry,
) -> None:
    registry.write("tiny", GOOD)
    wanted = registry.want("tiny")
    ready = await registry.told(wanted, "ready")
    shown = docker("image", "inspect", "--format", "{{.Id}} {{.Size}}", wanted.reference)
    assert f"{ready.digest} {ready.size_bytes}" == shown


async def test_what_is_there_is_only_reported(registry: Registry) -> None:
    registry.write("tiny", GOOD)
    wanted = registry.want("tiny")
    before = await registry.told(wanted, "ready")
    await registry.end()
    registry.reports.clear()
    registry.write("tiny", BAD)
    registry.start()
    assert await registry.told(wanted, "ready") == before
    assert {r.state for r in registry.reports} == {"ready"}


class SlowImages(DockerImages):
    """An engine that takes its time to say what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def image(self, reference: str) -> CommittedImage | None:
        await self.may_answer.wait()
        return await super().image(reference)


async def test_nothing_is_said_of_an_image_before_it_was_looked_for(registry: Registry) -> None:
    registry.write("tiny", GOOD)
    wanted = registry.want("tiny")
    await registry.told(wanted, "ready")
    await registry.end()
    registry.reports.clear()
    slow = SlowImages()
    registry.images, quick = slow, registry.images
    registry.start()
    for _ in range(3):
        await registry.ask()
        await asyncio.sleep(REPORT_EVERY_S)
    assert registry.reports == []
    slow.may_answer.set()
    await registry.told(wanted, "ready")
    await registry.end()
    await slow.close()
    registry.images = quick


async def test_an_image_that_the_host_lost_is_built_again(registry: Registry) -> None:
    registry.write("tiny", GOOD)
    wanted = registry.want("tiny")
    await registry.told(wanted, "ready")
    await registry.images.untag(wanted.reference)
    registry.reports.clear()
    await registry.told(wanted, "ready")
    assert await registry.images.image(wanted.reference) is not None


async def test_a_failure_is_reported_with_its_reason_and_tried_again(registry: Registry) -> None:
    registry.write("broken", BAD)
    wanted = registry.want("broken")
    failed = await registry.told(wanted, "failed")
    assert "what-is-not-there" in failed.message
    registry.write("broken", GOOD)
    await registry.told(wanted, "ready")


async def test_a_broken_recipe_does_not_hold_up_the_next(registry: Registry) -> None:
    registry.write("broken", BAD)
    registry.write("tiny", GOOD)
    broken, missing, tiny = (registry.want(n) for n in ("broken", "missing", "tiny"))
    await registry.told(tiny, "ready")
    await registry.told(broken, "failed")
    absent = await registry.told(missing, "failed")
    assert "no recipe 'missing'" in absent.message


async def test_an_image_waits_for_the_one_it_stands_on(registry: Registry) -> None:
    registry.write("first", BAD)
    registry.write("second", "ARG BASE\nFROM ${BASE}\nCOPY . /second\n")
    first = registry.want("first")
    second = registry.want("second", BASE=first.reference)
    await registry.told(first, "failed")
    await registry.told(second, "building", lambda r: first.reference in r.message)
    registry.write("first", GOOD)
    await registry.told(first, "ready")
    await registry.told(second, "ready")


async def test_a_build_that_was_cut_off_is_finished_after_a_restart(
    registry: Registry, image: str
) -> None:
    registry.write("slow", "ARG BASE\nFROM ${BASE}\nRUN sleep 30\n")
    wanted = registry.want("slow", BASE=image)
    await registry.told(wanted, "building", lambda r: "Running in" in r.message)
    building = await registry.told(wanted, "building", lambda r: r.progress > 0)
    assert building.progress == pytest.approx(2 / 3)
    await registry.end()
    registry.reports.clear()
    registry.write("slow", "ARG BASE\nFROM ${BASE}\nRUN true\n")
    registry.start()
    await registry.told(wanted, "ready")


async def test_what_the_host_adds_reaches_the_build(registry: Registry, image: str) -> None:
    registry.write("host", "ARG BASE\nFROM ${BASE}\nCOPY .host /host\n")
    wanted = registry.want("host", BASE=image)
    await registry.told(wanted, "ready")
    shown = docker("run", "--rm", "--entrypoint", "cat", wanted.reference, "/host/use")
    assert shown.startswith(USE.strip()[:200])


async def test_deleted_images_of_people_leave_the_host_and_nothing_else_does(
    registry: Registry,
) -> None:
    registry.write("tiny", GOOD)
    wanted = registry.want("tiny")
    await registry.told(wanted, "ready")
    mine, kept = (f"chusuan/u-test/{registry.mark}{n}:1" for n in (1, 2))
    for name in (mine, kept):
        docker("tag", wanted.reference, name)
    unwanted = [mine, wanted.reference, "chusuan/u-test/never-there:1"]
    await Clearing(registry.images).take(ImagesWanted(images=[], unwanted=unwanted))
    try:
        there = await registry.images.references(f"chusuan/u-test/{registry.mark}*")
        assert there == [kept]
        assert await registry.images.image(wanted.reference) is not None
    finally:
        await registry.images.untag(kept)


async def test_an_image_that_nobody_is_named_for_is_offered_and_not_built(
    registry: Registry,
) -> None:
    registry.write("tiny", GOOD)
    wanted = registry.want("tiny")
    await registry.ask(builder=None)
    async with registry.arrived:
        async with asyncio.timeout(10):
            await registry.arrived.wait_for(lambda: bool(registry.reports))
    assert [(r.state, r.message) for r in registry.reports] == [("building", "waiting")]
    await registry.told(wanted, "ready")


async def test_a_build_is_given_up_when_another_host_is_named_for_it(
    registry: Registry, image: str
) -> None:
    registry.write("slow", "ARG BASE\nFROM ${BASE}\nRUN sleep 30\n")
    wanted = registry.want("slow", BASE=image)
    await registry.told(wanted, "building", lambda r: "Running in" in r.message)
    registry.write("tiny", GOOD)
    await registry.ask(builder=OTHER)
    tiny = registry.want("tiny")
    registry.wanted.remove(wanted)
    await registry.told(tiny, "ready")
    assert await registry.images.image(wanted.reference) is None


def test_building_by_hand_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "nothing"]) == 1
    assert "no recipe 'nothing'" in capsys.readouterr().err
    assert main([]) == 2
