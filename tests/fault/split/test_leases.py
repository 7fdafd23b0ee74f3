"""What an agent does by itself when nobody can reach it: the stop at the end of the paid time; and
when it is not wanted any more."""

import time

import pytest

from agent.docker import parse_time
from agent.journal import Entry
from tests.e2e.people import Json
from tests.e2e.waiting import until
from tests.fault.flows import World
from tests.fault.invariants import broken
from tests.fault.split.breaking import cut
from tests.fault.split.rest import comes_to_rest
from tests.fault.split.test_processes import container_of
from tests.fault.split.topology import Split, containers_on
from tests.fault.split.work import rent_on

pytestmark = pytest.mark.slow

# An hour is the least that anybody pays ahead; the cap makes it short.
LEASE_S = 20


async def test_a_host_that_nobody_reaches_stops_at_the_end_of_the_paid_time_and_removes_nothing(
    world: World, topology: Split
) -> None:
    """I7; the bill ends at the last proof, before that stop."""
    host = topology.platform.hosts[1]
    async with topology.restarted_with("scheduler", CHUSUAN_LEASE_MAX_S=str(LEASE_S)):
        instance = await rent_on(world, host)
        await until(
            lambda: has_short_lease(topology, host.folder.name, instance),
            timeout_s=60, what="the agent has the short lease",
        )  # fmt: skip
        began = time.monotonic()
        async with cut(host):

            async def stopped() -> bool:
                (shown,) = await containers_on(host)
                return not shown["State"]["Running"]

            await until(stopped, timeout_s=LEASE_S + 30, what="the agent stops it by itself")
            assert time.monotonic() - began <= LEASE_S + 20
            assert await broken(topology) == []
        shown = await world.user.arrives(f"/instances/{instance['id']}", "stopped")
        assert shown["stop_reason"] == "lease"
        await comes_to_rest(topology)
    (container,) = await containers_on(host)
    ended = parse_time(container["State"]["FinishedAt"])
    assert ended is not None
    rows = await topology.ask(
        "market",
        "SELECT started_at, stopped_at FROM authorisations WHERE instance_id = $1::uuid",
        instance["id"],
    )
    # What the network held back until the return may open a run, of no second.
    assert all(r["stopped_at"] <= ended or r["stopped_at"] == r["started_at"] for r in rows)
    path = f"/instances/{instance['id']}"
    await world.user.post(f"{path}/start", {"mode": "gpu"})
    await world.user.arrives(path, "running")
    await comes_to_rest(topology)


async def has_short_lease(topology: Split, folder: str, instance: Json) -> bool:
    (entry,) = [
        Entry.model_validate_json(path.read_bytes())
        for agent in topology.agents
        for path in (agent / "instances").glob("*.json")
        if agent.parent.name == folder and instance["id"] in path.name
    ]
    lease = entry.lease
    return lease is not None and lease.until_s - time.clock_gettime(time.CLOCK_BOOTTIME) <= LEASE_S


async def test_a_revoked_host_is_refused_and_its_containers_run_on(
    world: World, topology: Split
) -> None:
    """Its login is gone at the broker, its instances are lost with it; a new invitation brings the
    same host back with everything on it."""
    host = topology.platform.hosts[2]
    instance = await rent_on(world, host)
    before = await container_of(topology, instance)
    node = await topology.node(host)
    await world.operator.post(f"/nodes/{node['id']}/revoke")
    login = f"node.{node['id']}"
    broker = topology.platform.broker

    async def is_out() -> bool:
        return login not in await broker.ctl("list_users") and login not in await broker.ctl(
            "list_connections", "user"
        )

    await until(is_out, timeout_s=30, what="the broker knows it no more")
    await world.user.arrives(f"/instances/{instance['id']}", "lost")
    agent = topology.platform.parts[f"agent-{host.number}"]

    async def says_why() -> bool:
        return "chusuan nodes invite" in agent.log()

    await until(says_why, timeout_s=90, what="the agent says what to do")
    assert agent.running is not None
    assert agent.running.returncode is None
    assert await container_of(topology, instance) == before
    assert await broken(topology) == []
    await invite_again(world, topology, host.number)
    await world.user.arrives(f"/instances/{instance['id']}", "running")
    assert await container_of(topology, instance) == before
    await comes_to_rest(topology)


async def invite_again(world: World, topology: Split, number: int) -> None:
    agent = topology.platform.parts[f"agent-{number}"]
    invitation = await world.operator.post("/nodes/invitations", {"name": f"host-{number}"})
    agent.command = (*agent.command[:-1], invitation["token"])
    await agent.kill()
    await topology.start()
