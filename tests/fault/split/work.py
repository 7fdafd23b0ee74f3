"""What people do while parts of the platform break, and what must answer all the time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx

from shared.ids import new_id
from tests.e2e.doors import wish
from tests.e2e.hosts import Host
from tests.e2e.people import Json
from tests.fault.flows import World, new_person
from tests.fault.split.topology import Split
from tests.fault.stubborn import PATIENCE_S

ANSWERS_WITHIN_S = 10.0


async def rent_on(world: World, host: Host, **more: object) -> Json:
    """An instance that runs on this host."""
    topology = world.topology
    assert isinstance(topology, Split)
    node = await topology.node(host)
    order = wish(await world.user.get("/offers"), world.image, name=f"i-{new_id().hex[:12]}")
    asked = await world.user.post("/instances", order | {"offer_id": str(node["id"])} | more)
    return await world.user.arrives(f"/instances/{asked['id']}", "running")


async def another(world: World) -> World:
    """A second person on the same platform."""
    user, account_id = await new_person(world.topology, world.operator, world.user.history)
    return World(world.topology, world.operator, user, account_id, world.image)


async def lives(world: World, host: Host, rounds: int = 1) -> None:
    """Rent, stop, start, release, to its end whatever breaks meanwhile."""
    for _ in range(rounds):
        instance = await rent_on(world, host)
        path = f"/instances/{instance['id']}"
        await world.user.post(f"{path}/stop")
        await world.user.arrives(path, "stopped")
        await world.user.post(f"{path}/start", {"mode": "cpu"})
        await world.user.arrives(path, "running")
        await world.release(instance)


@contextlib.asynccontextmanager
async def at_work(world: World, *, people: int = 3) -> AsyncIterator[None]:
    """People live their lives on all hosts and money is credited; after the fault each must have
    come to a good end."""
    topology = world.topology
    assert isinstance(topology, Split)
    hosts = topology.platform.hosts
    others = [await another(world) for _ in range(people)]
    tasks = [asyncio.create_task(lives(one, hosts[n % len(hosts)])) for n, one in enumerate(others)]
    tasks += [asyncio.create_task(is_credited(one)) for one in others]
    try:
        yield
        async with asyncio.timeout(PATIENCE_S * 2):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in others:
            await one.user.close()


async def is_credited(world: World, times: int = 20) -> None:
    """Each credit is booked once, however often its request was sent."""
    for _ in range(times):
        await world.operator.post(
            f"/wallets/{world.account_id}/credits", {"amount": "1.0000", "note": "burst"}
        )
    entries = (await world.user.get("/wallet/entries", size=200))["items"]
    assert [e["amount"] for e in entries if e["note"] == "burst"] == ["1.0000"] * times


async def still_answers(world: World, stops: Json | None = None) -> None:
    """I24: login, listing, a stop and file access, each at its first try and soon."""
    user = world.user
    async with httpx.AsyncClient(
        base_url=f"{user.url}/api/v1", trust_env=False, timeout=ANSWERS_WITHIN_S
    ) as http:
        login = {"username": user.name, "password": user.password}
        token = answered(await http.post("/sessions", json=login))["access_token"]
        http.headers["authorization"] = f"Bearer {token}"
        for path in ("/instances", "/offers", "/wallet", "/images"):
            answered(await http.get(path))
        name = {"path": f"/{new_id().hex}.txt"}
        answered(await http.put("/files/content", params=name, content=b"study"))
        kept = await http.get("/files/content", params=name)
        assert (kept.status_code, kept.content) == (200, b"study")
        answered(await http.get("/storage/usage"))
        if stops is not None:
            headers = {"idempotency-key": str(new_id())}
            path = f"/instances/{stops['id']}/stop"
            asked = answered(await http.post(path, json={}, headers=headers))
            assert asked["status"] in ("stopping", "stopped"), asked


def answered(response: httpx.Response) -> Json:
    assert response.is_success, f"{response.request.url}: {response.status_code} {response.text}"
    found: Json = response.json() if response.content else {}
    return found


async def bills_of(world: World, instance: Json) -> list[Json]:
    """Oldest first."""
    bills = (await world.user.get("/bills", size=200))["items"]
    return [bill for bill in reversed(bills) if bill["instance_id"] == instance["id"]]


async def billed(world: World, instance: Json) -> Decimal:
    return sum((Decimal(b["amount"]) for b in await bills_of(world, instance)), Decimal())
