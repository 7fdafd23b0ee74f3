"""F11 to F13: a host's link is cut, both ways or one, for long or again and again."""

import asyncio
import random
import time
from datetime import datetime, timedelta

import pytest

from tests.e2e.people import Json
from tests.e2e.waiting import until
from tests.fault.conftest import SEED
from tests.fault.flows import World
from tests.fault.invariants import broken
from tests.fault.split.breaking import Way, cut, one_way
from tests.fault.split.rest import comes_to_rest
from tests.fault.split.test_processes import container_of
from tests.fault.split.topology import LOST_AFTER_S, Split
from tests.fault.split.work import bills_of, rent_on
from tests.fault.stubborn import Refused

FLAPS_S = 30.0


async def status(world: World, instance: Json) -> str:
    found: str = (await world.user.get(f"/instances/{instance['id']}"))["status"]
    return found


async def gpus_stay_promised(topology: Split, instance: Json) -> None:
    rows = await topology.ask(
        "scheduler", "SELECT gpu_uuid FROM promises WHERE instance_id = $1::uuid", instance["id"]
    )
    assert len(rows) == 1


async def is_not_offered(world: World, topology: Split, instance: Json) -> None:
    """Nothing is placed on the lost host."""
    host = await topology.host_of(instance)
    node = await topology.node(host)

    async def withdrawn() -> bool:
        (shown,) = (
            offer
            for offer in (await world.user.get("/offers", size=200))["items"]
            if offer["id"] == str(node["id"])
        )
        return bool(shown["status"] == "offline")

    await until(withdrawn, timeout_s=15, what="the lost host is shown as offline")
    wish = {"offer_id": str(node["id"]), "gpu_count": 1, "billing": "payg"}
    with pytest.raises(Refused):
        await world.user.post("/instances", wish | {"image_id": world.image["id"]})


async def test_a_lost_host_is_settled_at_its_last_proof_and_resumed_without_the_gap(
    world: World, topology: Split
) -> None:
    """F11, F12, I3, I7, I10."""
    host = topology.platform.hosts[0]
    kept, ended = await rent_on(world, host), await rent_on(world, host)
    before = await container_of(topology, kept)
    async with cut(host):
        away_from = (await topology.node(host))["reported_at"]
        await world.user.arrives(f"/instances/{kept['id']}", "lost")
        last_proof = (await topology.node(host))["reported_at"]
        assert last_proof - away_from < timedelta(seconds=3)
        await gpus_stay_promised(topology, kept)
        await is_not_offered(world, topology, kept)
        await world.user.post(f"/instances/{ended['id']}/stop")
        assert await container_of(topology, kept) == before

        async def settled() -> bool:
            bills = await bills_of(world, kept)
            return bool(bills) and bills[-1]["settled"]

        await until(settled, timeout_s=15, what="the run is settled at the last proof")
        (bill,) = await bills_of(world, kept)
        assert datetime.fromisoformat(bill["ended_at"]) <= last_proof
        assert await broken(topology) == []
    mended = time.monotonic()
    await world.user.arrives(f"/instances/{kept['id']}", "running")
    assert time.monotonic() - mended < 30
    await world.user.arrives(f"/instances/{ended['id']}", "stopped")
    assert await container_of(topology, kept) == before
    await comes_to_rest(topology)
    first, second = await bills_of(world, kept)
    gap = datetime.fromisoformat(second["started_at"]) - datetime.fromisoformat(first["ended_at"])
    assert gap > timedelta(seconds=LOST_AFTER_S - 3)
    assert len(await bills_of(world, ended)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["INPUT", "OUTPUT"])
async def test_a_host_that_only_hears_or_is_only_heard_is_lost_and_returns(
    world: World, topology: Split, chain: Way
) -> None:
    """F12, one way."""
    host = topology.platform.hosts[1]
    kept, ended = await rent_on(world, host), await rent_on(world, host)
    before = await container_of(topology, kept)
    async with one_way(host, chain):
        await world.user.arrives(f"/instances/{kept['id']}", "lost")
        await world.user.post(f"/instances/{ended['id']}/release")
        assert await container_of(topology, kept) == before
        assert await broken(topology) == []
    await world.user.arrives(f"/instances/{kept['id']}", "running")
    await world.user.arrives(f"/instances/{ended['id']}", "released")
    assert await container_of(topology, kept) == before
    await comes_to_rest(topology)


@pytest.mark.slow
async def test_a_flapping_link_is_no_thrash(world: World, topology: Split) -> None:
    """F13: up and down every 1 to 3 s. The host is told silent at most once for each time that it
    was away for so long, and never lost; nothing restarts."""
    host, chance = topology.platform.hosts[2], random.Random(SEED)
    kept = await rent_on(world, host)
    before = await container_of(topology, kept)
    version = (await topology.node(host))["version"]
    until_s, cuts = time.monotonic() + FLAPS_S, 0
    while time.monotonic() < until_s:
        async with cut(host):
            cuts += 1
            await asyncio.sleep(chance.uniform(1, 3))
        await asyncio.sleep(chance.uniform(1, 3))
        assert await broken(topology) == []
    assert await status(world, kept) in ("running", "lost")
    await world.user.arrives(f"/instances/{kept['id']}", "running")
    await comes_to_rest(topology)
    assert await container_of(topology, kept) == before
    events = (await topology.node(host))["version"] - version
    assert events <= 3 * cuts, f"{events} node events in {cuts} cuts"
    assert len(await bills_of(world, kept)) <= 1 + FLAPS_S / LOST_AFTER_S


@pytest.mark.slow
async def test_hosts_cut_one_by_one_and_mended_in_another_order_come_to_rest(
    world: World, topology: Split
) -> None:
    """F13, swizzled."""
    chance = random.Random(SEED)
    hosts = list(topology.platform.hosts)
    kept = [await rent_on(world, host) for host in hosts]
    chance.shuffle(hosts)
    for host in hosts:
        await host.cut()
        await asyncio.sleep(chance.uniform(1, 4))
    assert await broken(topology) == []
    chance.shuffle(hosts)
    for host in hosts:
        await host.mend()
        await asyncio.sleep(chance.uniform(1, 4))
    for instance in kept:
        await world.user.arrives(f"/instances/{instance['id']}", "running")
    await comes_to_rest(topology)


@pytest.mark.slow
async def test_nothing_is_lost_when_all_hosts_fall_silent_at_once(
    world: World, topology: Split
) -> None:
    """The breaker: the platform suspects itself, says so, and is calm when they are back."""
    kept = [await rent_on(world, host) for host in topology.platform.hosts]
    async with cut(*topology.platform.hosts):
        for host in topology.platform.hosts:
            await topology.node_becomes(host, "silent")

        async def opened() -> bool:
            return bool((await world.operator.get("/nodes"))["breaker"]["open"])

        await until(opened, timeout_s=15, what="the breaker is open")
        # Well beyond the time after which one host alone would be lost.
        await asyncio.sleep(LOST_AFTER_S + 5)
        states = [one["state"] for one in (await world.operator.get("/nodes"))["items"]]
        assert states == ["silent"] * len(kept)
        assert [await status(world, one) for one in kept] == ["running"] * len(kept)
        assert await broken(topology) == []
    await comes_to_rest(topology)
    for instance in kept:
        assert await status(world, instance) == "running"
        assert len(await bills_of(world, instance)) == 1
