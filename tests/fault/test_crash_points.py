"""F1: the platform is killed at a named point in every step of the main job; the step ends well.

A clean run of each step records the points that it passes. Then the step is done again for each of
them: the process dies there, starts again, and a careful client's step must complete, everything
come to rest, and every invariant hold.

By default the most telling points, about a minute. `make fault` does all: `POINTS=n` a sample of
so many, drawn by `SEED`; `RESUME=FILE` leaves out what that file says is done, and notes in it.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.conftest import LONG, SEED
from tests.fault.flows import FLOWS, World
from tests.fault.invariants import broken, settles
from tests.fault.topology import CrashPoints

pytestmark = [pytest.mark.docker, pytest.mark.timeout(6 * 3600)]

PASSES_EACH = 2
# What comes after the answer comes within a heartbeat or an order's repetition.
STRAGGLES_S = 7.0

TELLING = (
    ("credit", "market.create_credit.reply"),
    ("upload", "storage.put.after"),
    ("rent", "scheduler.rent_instance.call.after#2"),
    ("rent", "docker.create.after"),
    ("stop", "outbox.scheduler.instance.stopped.after"),
    ("start_without_card", "journal.replace"),
    ("save", "docker.write_file.after"),
    ("release", "docker.remove.after"),
)


@dataclass(frozen=True, slots=True)
class Case:
    flow: str
    point: str

    def __str__(self) -> str:
        return f"{self.flow} at {self.point}"


async def passed_by(world: World, points: CrashPoints, flow: str) -> list[Case]:
    """Of a clean run."""
    state = await FLOWS[flow].prepare(world)
    await settles(world.topology)
    mark = points.mark()
    await FLOWS[flow].act(world, state)
    await settles(world.topology)
    return [
        Case(flow, f"{name}#{n}")
        for name, count in sorted(points.passed_since(mark).items())
        for n in range(1, min(count, PASSES_EACH) + 1)
    ]


async def does_well(world: World, points: CrashPoints, case: Case) -> bool:
    """False where the point was not passed this time."""
    flow, topology = FLOWS[case.flow], world.topology
    state = await flow.prepare(world)
    points.arm(case.point)
    death = asyncio.create_task(_die_and_return(world, points))
    try:
        acting = asyncio.create_task(flow.act(world, state))
        await asyncio.wait({acting, death}, return_when=asyncio.FIRST_EXCEPTION)
        await acting
        await asyncio.wait({death}, timeout=STRAGGLES_S)
        reached = death.done()
    finally:
        points.arm("")
        if not death.done():
            death.cancel()
        await asyncio.gather(death, return_exceptions=True)
    await topology.start()
    assert await broken(topology) == [], str(case)
    await settles(topology)
    return reached


async def _die_and_return(world: World, points: CrashPoints) -> None:
    await world.topology.died()
    points.arm("")
    await world.topology.start()


def chosen(found: list[Case]) -> Iterator[Case]:
    sample = int(os.environ.get("POINTS", "0"))
    if sample and sample < len(found):
        found = random.Random(SEED).sample(found, sample)
    done = set(_done())
    return (case for case in found if str(case) not in done)


def _done() -> list[str]:
    name = os.environ.get("RESUME")
    if not name or not Path(name).exists():
        return []
    return [json.loads(line)["case"] for line in Path(name).read_text().splitlines()]


def note(case: Case, reached: bool, seconds: float) -> None:
    line = json.dumps({"case": str(case), "reached": reached, "seconds": round(seconds, 1)})
    sys.stderr.write(f"{line}\n")
    if name := os.environ.get("RESUME"):
        with Path(name).open("a") as file:
            file.write(f"{line}\n")


@pytest.mark.parametrize(("flow", "point"), TELLING)
@pytest.mark.skipif(LONG, reason="all points are tried")
async def test_a_step_ends_well_when_the_platform_dies_at_this_point(
    world: World, crash_points: CrashPoints, flow: str, point: str
) -> None:
    assert await does_well(world, crash_points, Case(flow, point)), "the point was not passed"


@pytest.mark.skipif(not LONG, reason="make fault")
async def test_every_step_ends_well_at_whatever_point_the_platform_dies(
    world: World, crash_points: CrashPoints
) -> None:
    sys.stderr.write(f"seed {SEED}\n")
    only = os.environ.get("FLOWS", "").split() or list(FLOWS)
    found = [case for flow in only for case in await passed_by(world, crash_points, flow)]
    missed, wrong = [], []
    tried = list(chosen(found))
    sys.stderr.write(f"{len(found)} points, {len(tried)} to try\n")
    for case in tried:
        began = time.monotonic()
        try:
            reached = await does_well(world, crash_points, case)
        except Exception as failure:
            sys.stderr.write(f"WRONG {case}: {failure!r}\n")
            wrong.append(f"{case}: {failure!r}")
            continue
        note(case, reached, time.monotonic() - began)
        if not reached:
            missed.append(str(case))
    assert wrong == []
    # A point may depend on what happens to meet what; most do not.
    assert len(missed) <= len(tried) // 4, missed
