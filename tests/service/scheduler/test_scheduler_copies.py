"""Two schedulers on one database: nothing is promised, asked or told twice, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from services.scheduler.main import create_app
from services.scheduler.placing import place_waiting
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tools import Tools
from shared.events.scheduler import InstanceStarted, InstanceStopped
from shared.ids import new_id
from tests.service.scheduler.conftest import House


@asynccontextmanager
async def second_copy(house: House) -> AsyncIterator[House]:
    """Beside the first, with the same database, bus, market and registry."""
    settings: SchedulerSettings = house.tools.settings
    app = create_app(
        settings, key_source=house.identity, market=house.market, registry=house.registry
    )
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://scheduler") as http:
            yield replace(house, app=app, http=http)


@pytest.fixture
async def other(house: House) -> AsyncIterator[House]:
    async with second_copy(house) as copy:
        yield copy


async def test_each_lone_worker_has_one_holder(house: House, other: House) -> None:
    async with asyncio.timeout(20):
        while len(held := await house.rows("SELECT name, token FROM leases")) < 3:
            await asyncio.sleep(0.05)
    assert sorted(held) == [
        ("worker:scheduler.deadlines", 1),
        ("worker:scheduler.orders", 1),
        ("worker:scheduler.reservations", 1),
    ]


async def test_whichever_copy_took_the_request_its_order_leaves_at_once(
    house: House, other: House
) -> None:
    """Sooner than the next time that all orders are told again."""
    agent = await house.add_agent()
    for copy in (house, other):
        rented = await copy.rent(agent)
        async with asyncio.timeout(3):
            await agent.ordered(rented["id"], want="running")


async def test_one_free_gpu_asked_for_at_both_copies_is_promised_once(
    house: House, other: House
) -> None:
    agent = await house.add_agent(gpus=1)
    asked = [copy.post("/instances", copy.wish(agent)) for copy in (house, other) * 4]
    answers = await asyncio.gather(*asked)
    states = [a.json()["status"] for a in answers if a.status_code == 201]
    assert states.count("creating") == 1
    assert await house.promised() == 1000


async def test_one_key_sent_to_both_copies_has_one_effect(house: House, other: House) -> None:
    agent = await house.add_agent()
    key = {"Idempotency-Key": str(new_id())}
    wish = house.wish(agent)
    asked = [copy.post("/instances", wish, **key) for copy in (house, other) * 4]
    answers = await asyncio.gather(*asked)
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["id"] for a in answers}) == 1
    assert len(await house.rows("SELECT 1 FROM instances")) == 1
    assert await house.promised() == 1000


async def test_the_queue_of_a_host_is_placed_once_by_both_copies_at_once(
    house: House, other: House
) -> None:
    agent = await house.add_agent(gpus=2)
    held = [await house.running(agent) for _ in range(2)]
    waiting = [await other.rent(agent) for _ in range(3)]
    assert {each["status"] for each in waiting} == {"queued"}
    for instance in held:
        await house.move(instance, "stop")
        await agent.stops(instance["id"])
    copies: list[Tools] = [house.tools, other.tools]
    await asyncio.gather(*(place_waiting(tools) for tools in copies * 4))
    states = [(await other.show(each["id"]))["status"] for each in waiting]
    assert states == ["creating", "creating", "queued"]
    assert await house.promised() == 2000


async def test_a_run_is_told_once_however_many_copies_hear_of_it(
    house: House, other: House
) -> None:
    agent = await house.add_agent()
    instance = await other.running(agent)
    await asyncio.gather(*(agent.report() for _ in range(6)))
    await house.move(instance, "stop")
    await agent.stops(instance["id"])
    await asyncio.gather(*(agent.report() for _ in range(6)))
    await house.facts.told(InstanceStopped)
    assert len(house.facts.of(InstanceStarted)) == 1
    assert len(house.facts.of(InstanceStopped)) == 1


async def test_stops_at_both_copies_give_the_gpu_back_once(house: House, other: House) -> None:
    agent = await house.add_agent()
    instance = await house.running(agent)
    stops = [c.post(f"/instances/{instance['id']}/stop") for c in (house, other) * 3]
    answers = await asyncio.gather(*stops)
    assert {a.status_code for a in answers} <= {200, 409, 503}
    assert 200 in {a.status_code for a in answers}
    await agent.stops(instance["id"])
    async with asyncio.timeout(10):
        while await house.promised():
            await asyncio.sleep(0.05)
