"""F4 to F7 and F37 on the whole platform with real Docker: the agent dies with it, containers end
and freeze beside it, clients vanish."""

import asyncio
import socket
from datetime import datetime

import pytest

from agent.docker import parse_time
from tests.e2e.people import Json
from tests.e2e.waiting import until
from tests.fault.flows import World
from tests.fault.invariants import settles
from tests.fault.topology import Embedded, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


async def bill_of(world: World, instance: Json) -> Json:
    """The newest, once it is settled."""
    found: list[Json] = []

    async def settled() -> bool:
        bills = (await world.user.get("/bills", size=200))["items"]
        found[:] = [bill for bill in bills if bill["instance_id"] == instance["id"]]
        return bool(found) and found[0]["settled"]

    await until(settled, timeout_s=30, what="the bill is settled")
    return found[0]


async def finished_at(container: str) -> datetime:
    said = await asyncio.to_thread(
        docker, "inspect", "--format", "{{.State.FinishedAt}}", container
    )
    moment = parse_time(said)
    assert moment is not None
    return moment


async def test_a_container_outlives_the_agent_and_is_not_made_again(
    world: World, topology: Embedded
) -> None:
    """F4."""
    instance = await world.running()
    before = await topology.platform.containers_of(instance)
    await topology.kill()
    assert await topology.platform.containers_of(instance) == before != ""
    await topology.start()
    await settles(topology)
    again = await world.user.get(f"/instances/{instance['id']}")
    assert (again["status"], again["started_at"]) == ("running", instance["started_at"])
    assert await topology.platform.containers_of(instance) == before


async def test_what_ended_while_the_agent_was_dead_is_billed_up_to_dockers_own_time(
    world: World, topology: Embedded
) -> None:
    """F5."""
    instance = await world.running()
    container = (await topology.platform.containers_of(instance)).strip()
    await topology.kill()
    await asyncio.to_thread(docker, "kill", container)
    ended = await finished_at(container)
    await topology.start()
    await world.user.arrives(f"/instances/{instance['id']}", "stopped")
    bill = await bill_of(world, instance)
    assert datetime.fromisoformat(bill["ended_at"]) == ended
    await settles(topology)


async def test_a_container_that_is_killed_stops_costing_at_that_moment(
    world: World, topology: Embedded
) -> None:
    """F6."""
    instance = await world.running()
    container = (await topology.platform.containers_of(instance)).strip()
    await asyncio.to_thread(docker, "kill", container)
    shown = await world.user.arrives(f"/instances/{instance['id']}", "stopped")
    assert shown["stop_reason"] == "shutdown"
    bill = await bill_of(world, instance)
    assert datetime.fromisoformat(bill["ended_at"]) == await finished_at(container)
    await settles(topology)


@pytest.mark.parametrize("move", ["stop", "release"])
async def test_a_frozen_container_is_stopped_and_released_like_any_other(
    world: World, topology: Embedded, move: str
) -> None:
    """F7."""
    instance = await world.running()
    container = (await topology.platform.containers_of(instance)).strip()
    await asyncio.to_thread(docker, "pause", container)
    path = f"/instances/{instance['id']}"
    await world.user.post(f"{path}/{move}")
    await world.user.arrives(path, "stopped" if move == "stop" else "released")
    await settles(topology)


async def test_an_upload_whose_client_vanishes_leaves_nothing(
    world: World, topology: Embedded
) -> None:
    """F37: cut at several places, then done once more in whole."""
    await world.user.get("/storage/usage")
    total = 8 << 20
    for sent in (0, 1, 70_000, 3 << 20, total - 1):
        await asyncio.to_thread(_vanish, world, topology.platform.port, sent, total)
    listed = (await world.user.get("/files", path="/", size=200))["items"]
    assert "/half.bin" not in [entry["path"] for entry in listed]
    content = b"w" * total
    await world.user.send("PUT", "/files/content", params={"path": "/half.bin"}, content=content)
    back = await world.user.send("GET", "/files/content", params={"path": "/half.bin"})
    assert back == content
    await world.user.get("/storage/usage")
    await settles(topology)


def _vanish(world: World, port: int, sent: int, total: int) -> None:
    """The connection is reset, not closed."""
    head = (
        f"PUT /api/v1/files/content?path=/half.bin HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {world.user.token}\r\nContent-Length: {total}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + b"v" * sent)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
