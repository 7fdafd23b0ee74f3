"""F1, F4 and F8: services, agents and engines are killed, each alone, while the main job runs."""

import asyncio
import random
import sys

import pytest

from cli.up.home import SERVICES
from tests.e2e.people import Json
from tests.fault.conftest import SEED
from tests.fault.flows import FLOWS, World
from tests.fault.invariants import broken
from tests.fault.split.breaking import end_engine
from tests.fault.split.rest import comes_to_rest
from tests.fault.split.topology import Split
from tests.fault.split.work import another, rent_on

JOB = ("upload", "rent", "stop", "start_without_card", "restart", "save", "rent_saved_image",
       "release")  # fmt: skip
LATEST_KILL_S = 1.5
ALL_PARTS = (*SERVICES, "gateway", "agent-1", "agent-2", "agent-3")


async def strike(topology: Split, part: str, chance: random.Random) -> None:
    moment_s, pause_s = chance.uniform(0, LATEST_KILL_S), chance.uniform(0, LATEST_KILL_S)
    await asyncio.sleep(moment_s)
    await topology.kill(part)
    sys.stderr.write(f"{part} killed after {moment_s:.3f} s for {pause_s:.3f} s (seed {SEED})\n")
    await asyncio.sleep(pause_s)
    await topology.start()


async def do_struck(world: World, topology: Split, step: str, part: str) -> None:
    """One step of the main job while this part dies."""
    flow, chance = FLOWS[step], random.Random(f"{SEED}{step}{part}")
    state = await flow.prepare(world)
    striking = asyncio.create_task(strike(topology, part, chance))
    try:
        await flow.act(world, state)
    finally:
        await striking
    assert await broken(topology) == []


@pytest.mark.parametrize(("step", "part"), [("rent", "scheduler"), ("restart", "market")])
async def test_a_step_of_the_main_job_ends_well_when_a_service_dies(
    world: World, topology: Split, step: str, part: str
) -> None:
    """F1, the short form."""
    await do_struck(world, topology, step, part)
    await comes_to_rest(topology)


@pytest.mark.slow
@pytest.mark.parametrize("part", ALL_PARTS)
async def test_the_main_job_ends_well_although_this_part_dies_in_every_step(
    world: World, topology: Split, part: str
) -> None:
    """F1."""
    one = await another(world)
    for step in JOB:
        await do_struck(one, topology, step, part)
    await one.release_all()
    await one.user.close()
    await comes_to_rest(topology)


async def container_of(topology: Split, instance: Json) -> tuple[str, str]:
    """Which container, and since when it runs."""
    (shown,) = [
        shown
        for shown in await topology.containers()
        if shown["Config"]["Labels"]["chusuan.instance"] == instance["id"]
    ]
    return shown["Id"], shown["State"]["StartedAt"]


async def test_a_container_outlives_its_agent_and_its_bill_goes_on(
    world: World, topology: Split
) -> None:
    """F4: dead until the host is lost, and a stop of another instance asked for meanwhile."""
    host = topology.platform.hosts[1]
    kept, ended = await rent_on(world, host), await rent_on(world, host)
    before = await container_of(topology, kept)
    await topology.kill(f"agent-{host.number}")
    await topology.node_becomes(host, "silent")
    await world.user.post(f"/instances/{ended['id']}/stop")
    await topology.node_becomes(host, "lost")
    assert await broken(topology) == []
    await topology.start()
    await world.user.arrives(f"/instances/{kept['id']}", "running")
    await world.user.arrives(f"/instances/{ended['id']}", "stopped")
    assert await container_of(topology, kept) == before
    await comes_to_rest(topology)


@pytest.mark.slow
@pytest.mark.parametrize("live", [True, False], ids=["live-restore", "plain"])
async def test_a_host_comes_through_the_death_of_its_docker_engine(
    world: World, topology: Split, live: bool
) -> None:
    """F8: with live-restore containers run on; without, Docker ends them when it starts, and what
    ended is stopped by Docker's own time. Either way the host takes new work."""
    host = topology.platform.hosts[2]
    instance = await rent_on(world, host)
    before = await container_of(topology, instance)
    await end_engine(host)
    assert await topology.ask("scheduler", "SELECT 1 FROM nodes WHERE state = 'lost'") == []
    words = ("--live-restore",) if live else ()
    await host.start_engine(topology.platform.oci_address, *words)
    if live:
        await topology.node_becomes(host, "online")
        await comes_to_rest(topology)
        assert await container_of(topology, instance) == before
    else:
        await world.user.arrives(f"/instances/{instance['id']}", "stopped")
    await world.release(await rent_on(world, host))
    assert await broken(topology) == []
    await comes_to_rest(topology)
