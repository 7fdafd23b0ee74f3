"""A fault suite that has never failed proves nothing: each bug here must turn a checker red.

A bug is planted by patching our code in this very process. Every scenario is run without it first,
where the checker finds nothing.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest
from sqlalchemy import Column, Table, Uuid, select, text
from sqlalchemy.ext.asyncio import AsyncSession

import agent.containers
import services.scheduler.observing as observing
from services.scheduler.domain.observation import Outcome, Seen, Standing, observe
from shared import inbox
from shared.bus import MemoryBus, Subscription
from shared.database import Database, new_metadata
from shared.events import Envelope, Payload
from shared.events.agent import NodeDesired, NodeReported
from shared.inbox import consume, on
from shared.outbox import LEASE_S, Relay, emit
from shared.platform_tables import define_platform_tables
from tests.e2e.waiting import until
from tests.fault.history import effects_not_once, unordered_starts
from tests.fault.invariants import containers_are_what_the_rows_say
from tests.fault.rooms import Rooms, open_rooms
from tests.fault.troubled_bus import TroubledBus

Patch = pytest.MonkeyPatch
planted = pytest.mark.parametrize("planted", [False, True], ids=["honest", "planted"])


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int


METADATA = new_metadata()
define_platform_tables(METADATA)
EFFECTS = Table("effects", METADATA, Column("event_id", Uuid()))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()


async def note(session: AsyncSession, _: Happened, event: Envelope) -> None:
    await session.execute(EFFECTS.insert().values(event_id=event.id))


async def tell(database: Database, count: int) -> None:
    async with database.transaction() as session:
        for number in range(count):
            await emit(session, Happened(number=number), subject=number)


async def findings(database: Database) -> list[str]:
    async with database.transaction() as session:
        events = (await session.execute(text("SELECT id FROM outbox"))).scalars().all()
        effects = (await session.execute(select(EFFECTS.c.event_id))).scalars().all()
    return list(effects_not_once(events, effects))


async def relayed(database: Database, relay: Relay) -> None:
    """Until the outbox has nothing more to tell."""
    task = asyncio.create_task(relay.run())

    async def told() -> bool:
        async with database.transaction() as session:
            waiting = text("SELECT count(*) FROM outbox WHERE published_at IS NULL")
            return bool((await session.execute(waiting)).scalar_one() == 0)

    await until(told, timeout_s=30, what="all is told")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@planted
async def test_acknowledging_before_the_commit_loses_effects(
    database: Database, planted: bool
) -> None:
    bus, reached = MemoryBus(), asyncio.Event()
    effects: list[asyncio.Future[None]] = []
    at_work: list[asyncio.Task[None]] = []

    async def slow(session: AsyncSession, payload: Happened, event: Envelope) -> None:
        await note(session, payload, event)
        if (task := asyncio.current_task()) is not None:
            at_work.append(task)
        reached.set()
        await asyncio.Event().wait()

    honest = consume(database, "test.effects", on(Happened, slow))

    async def hasty(event: Envelope) -> None:
        effects.append(asyncio.ensure_future(honest.handler(event)))

    handler = hasty if planted else honest.handler
    await bus.subscribe(Subscription("test.effects", honest.patterns, handler))
    await tell(database, 3)
    relay = asyncio.create_task(Relay(database, bus).run())
    await reached.wait()
    if planted:
        await until(lambda: _all_marked(database), timeout_s=20, what="all count as told")
    # The process dies in the middle of its effects, and comes back.
    died = (relay, *effects, *at_work)
    for task in died:
        task.cancel()
    await asyncio.gather(*died, return_exceptions=True)
    again = MemoryBus()
    await again.subscribe(consume(database, "test.effects", on(Happened, note)))
    await relayed(database, Relay(database, again))
    assert bool(await findings(database)) is planted


async def _all_marked(database: Database) -> bool:
    async with database.transaction() as session:
        waiting = text("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        return bool((await session.execute(waiting)).scalar_one() == 0)


async def _forget(_: AsyncSession, __: str, events: Sequence[Envelope]) -> set[UUID]:
    """Every event is new, as to an inbox without rows."""
    return {event.id for event in events}


@planted
async def test_without_the_inbox_an_effect_happens_twice(
    database: Database, monkeypatch: Patch, planted: bool
) -> None:
    if planted:
        monkeypatch.setattr(inbox, "_remember", _forget)
    bus = TroubledBus(random.Random(1))
    await bus.subscribe(consume(database, "test.effects", on(Happened, note)))
    await tell(database, 20)
    await relayed(database, Relay(database, bus))
    await bus.calm()
    assert bool(await findings(database)) is planted


class _CursorRelay(Relay):
    """Reads on from the last number it has seen: what commits behind that, it never claims."""

    last = 0

    async def _claim(self, most: int) -> list[Envelope]:
        statement = text("SELECT position, envelope FROM outbox WHERE position > :last ORDER BY 1")
        async with self._database.transaction() as session:
            rows = (await session.execute(statement, {"last": self.last})).all()
        self.last = max([self.last, *(row.position for row in rows)])
        events = [Envelope.model_validate(row.envelope) for row in rows]
        self._claimed |= {event.id: time.monotonic() + LEASE_S for event in events}
        return events


@planted
async def test_a_relay_with_a_cursor_loses_what_commits_behind_it(
    database: Database, planted: bool
) -> None:
    bus = MemoryBus()
    await bus.subscribe(consume(database, "test.effects", on(Happened, note)))
    relay = asyncio.create_task((_CursorRelay if planted else Relay)(database, bus).run())
    async with database.transaction() as slow:
        await emit(slow, Happened(number=1), subject=1)
        await slow.flush()
        await tell(database, 1)
        await until(lambda: _effects(database, 1), timeout_s=20, what="the later one is told")
    await tell(database, 1)
    # The one of the slow transaction comes before the newest, or never.
    await until(lambda: _effects(database, 2), timeout_s=20, what="the newest is told")
    if not planted:
        await until(lambda: _effects(database, 3), timeout_s=20, what="all are told")
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    assert bool(await findings(database)) is planted


async def _effects(database: Database, count: int) -> bool:
    async with database.transaction() as session:
        found = (await session.execute(select(EFFECTS.c.event_id))).scalars().all()
    return len(found) >= count


@pytest.fixture
async def rooms(new_database: Callable[[], Awaitable[str]], tmp_path: Path) -> AsyncIterator[Rooms]:
    async with open_rooms(new_database, tmp_path, random.Random(1)) as opened:
        hosts = "SELECT 1 FROM hosts WHERE state = 'online'"

        async def offered() -> bool:
            return bool(await opened.ask("market", hosts))

        await until(offered, timeout_s=30, what="the market knows the host")
        yield opened


@planted
async def test_an_agent_without_the_fence_starts_what_an_old_order_says(
    rooms: Rooms, monkeypatch: Patch, planted: bool
) -> None:
    if planted:
        monkeypatch.setattr(agent.containers, "is_outdated", lambda order, entry: False)
    instance = await _ran_twice(rooms)
    (first, *_) = [e for e in rooms.bus.told if _orders_running(e, instance)]
    # The agent dies, and the first thing that its successor hears is years old.
    rooms.bus.mutes = lambda event: event.type == NodeDesired.type
    await rooms.kill()
    await rooms.start()
    await _arrives(rooms, instance, "running")
    await _hears(rooms, first)
    rooms.bus.mutes = lambda event: False
    await _answers_to_now(rooms, instance)
    ordered = await rooms.ask(
        "scheduler",
        "SELECT count(*) AS starts FROM instance_history WHERE instance_id = $1"
        " AND cause IN ('rent', 'start')",
        instance,
    )
    found = list(unordered_starts(rooms.engine.held, {instance: ordered[0]["starts"]}))
    assert bool(found) is planted


@planted
async def test_a_scheduler_without_the_fence_believes_an_old_report(
    rooms: Rooms, monkeypatch: Patch, planted: bool
) -> None:
    if planted:
        monkeypatch.setattr(observing, "_is_newer", lambda node, report: True)
        monkeypatch.setattr(observing, "observe", _credulous(observe))
    instance = await _ran_twice(rooms)
    stopped = next(e for e in rooms.bus.told if _reports_stopped(e, instance))
    rooms.bus.mutes = lambda event: True
    await rooms.bus.replay(stopped)
    found = [what async for what in containers_are_what_the_rows_say(rooms)]
    rooms.bus.mutes = lambda event: False
    assert bool(found) is planted


def _credulous(
    honest: Callable[[Standing, Seen, datetime], Outcome | None],
) -> Callable[[Standing, Seen, datetime], Outcome | None]:
    def believe(standing: Standing, seen: Seen, at: datetime) -> Outcome | None:
        told = replace(seen, generation=standing.generation, start_token=standing.start_token)
        return honest(standing, told, at)

    return believe


async def _ran_twice(rooms: Rooms) -> UUID:
    """An instance that runs for the second time."""
    account = await rooms.account("100")
    rented = (await rooms.post(account, "/instances", await rooms.wish())).json()
    instance = UUID(rented["id"])
    await _arrives(rooms, instance, "running")
    await rooms.post(account, f"/instances/{instance}/stop")
    await _arrives(rooms, instance, "stopped")
    await rooms.post(account, f"/instances/{instance}/start", {"mode": "gpu"})
    await _arrives(rooms, instance, "running")
    return instance


async def _arrives(rooms: Rooms, instance: UUID, state: str) -> None:
    async def arrived() -> bool:
        rows = await rooms.ask("scheduler", "SELECT state FROM instances WHERE id = $1", instance)
        return bool(rows[0]["state"] == state)

    await until(arrived, timeout_s=30, what=f"{instance} is {state}")


def _orders_running(event: Envelope, instance: UUID) -> bool:
    if event.type != NodeDesired.type:
        return False
    orders = NodeDesired.model_validate(event.data).instances
    return any(o.instance_id == instance and o.want == "running" for o in orders)


def _reports_stopped(event: Envelope, instance: UUID) -> bool:
    if event.type != NodeReported.type:
        return False
    seen = NodeReported.model_validate(event.data).instances
    return any(o.instance_id == instance and o.state == "stopped" for o in seen)


async def _hears(rooms: Rooms, order: Envelope) -> None:
    """Until the agent's new process has been told, and has said something since."""
    queue = f"agent.{order.subject}.desired"
    await until(
        lambda: _truly(queue in rooms.bus._queues), timeout_s=20, what="the agent listens again"
    )
    await rooms.bus.replay(order)
    await _two_more_reports(rooms)


async def _answers_to_now(rooms: Rooms, instance: UUID) -> None:
    """Until the agent reports the start that the scheduler means."""
    rows = await rooms.ask("scheduler", "SELECT start_token FROM instances WHERE id = $1", instance)
    await _two_more_reports(rooms)

    async def answers() -> bool:
        event = next(e for e in reversed(rooms.bus.told) if e.type == NodeReported.type)
        seen = NodeReported.model_validate(event.data).instances
        return any(o.start_token == rows[0]["start_token"] and o.state == "running" for o in seen)

    await until(answers, timeout_s=30, what="the agent does what is ordered now")


async def _two_more_reports(rooms: Rooms) -> None:
    def count() -> int:
        return sum(e.type == NodeReported.type for e in rooms.bus.told)

    before = count()
    await until(lambda: _truly(count() >= before + 2), timeout_s=20, what="two more reports")


async def _truly(so: bool) -> bool:
    return so
