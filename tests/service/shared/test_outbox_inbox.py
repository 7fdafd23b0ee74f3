"""An event leaves if and only if its transaction committed, and has its effect once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import ClassVar

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Column, Integer, MetaData, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from shared import inbox, outbox
from shared.bus import Handler, MemoryBus, Subscription
from shared.database import Database, new_metadata
from shared.events import Envelope, Payload
from shared.inbox import consume, on
from shared.outbox import Relay, count_waiting, emit
from shared.platform_tables import define_platform_tables


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int


def _metadata() -> MetaData:
    metadata = new_metadata()
    define_platform_tables(metadata)
    Table("effects", metadata, Column("number", Integer()))
    return metadata


METADATA = _metadata()
EFFECTS = METADATA.tables["effects"]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus()
    yield bus
    await bus.close()


@pytest.fixture
async def relay(database: Database, bus: MemoryBus) -> AsyncIterator[None]:
    task = asyncio.create_task(Relay(database, bus).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _collect(bus: MemoryBus, count: int) -> "asyncio.Future[list[object]]":
    seen: list[object] = []
    done: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()

    async def handler(event: Envelope) -> None:
        seen.append(event.data["number"])
        if len(seen) == count and not done.done():
            done.set_result(seen)

    await bus.subscribe(Subscription("collector", ("test.#",), handler))
    return done


async def _emit_all(database: Database, numbers: range) -> None:
    async with database.transaction() as session:
        for number in numbers:
            await emit(session, Happened(number=number), subject="one")


async def test_a_committed_event_arrives_in_the_order_of_its_subject(
    database: Database, bus: MemoryBus, relay: None
) -> None:
    done = await _collect(bus, 250)
    await _emit_all(database, range(250))
    assert await asyncio.wait_for(done, 20) == list(range(250))


async def test_a_rolled_back_event_never_leaves(database: Database) -> None:
    class Stop(Exception):
        pass

    with contextlib.suppress(Stop):
        async with database.transaction() as session:
            await emit(session, Happened(number=1), subject="one")
            raise Stop
    async with database.transaction() as session:
        assert await count_waiting(session) == 0


async def test_an_undeliverable_event_waits_and_arrives_later(
    database: Database, bus: MemoryBus, relay: None
) -> None:
    failures = 2
    done = asyncio.Event()

    async def handler(event: Envelope) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("not yet")
        done.set()

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    await _emit_all(database, range(1))
    await asyncio.wait_for(done.wait(), 20)


async def test_what_a_dead_relay_had_claimed_is_told_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEASE_S", 0.3)
    taken, told = asyncio.Event(), asyncio.Event()

    async def hang(event: Envelope) -> None:
        taken.set()
        await asyncio.Event().wait()

    async def tell(event: Envelope) -> None:
        told.set()

    async with _relaying(database, hang):
        await _emit_all(database, range(1))
        await asyncio.wait_for(taken.wait(), 20)
    async with _relaying(database, tell):
        await asyncio.wait_for(told.wait(), 20)


async def test_a_slow_consumer_does_not_lose_its_event_to_another_relay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LEASE_S", 1.0)
    deliveries = 0
    done = asyncio.Event()

    async def slow(event: Envelope) -> None:
        nonlocal deliveries
        deliveries += 1
        first = await _claimed_until(database)
        while (await _claimed_until(database) - first).total_seconds() < 2.0:
            await asyncio.sleep(0)
        done.set()

    async with _relaying(database, slow), _relaying(database, slow):
        await _emit_all(database, range(1))
        await asyncio.wait_for(done.wait(), 20)
    assert deliveries == 1


class _Told:
    """A bus that remembers in which order it was told, across relays. delay_s: of this relay's
    way to it."""

    def __init__(self, told: list[object], delay_s: float = 0.0) -> None:
        self._told = told
        self._delay_s = delay_s
        self.arrives = asyncio.Event()

    async def handle(self, event: Envelope) -> None:
        await asyncio.sleep(self._delay_s)
        self._told.append(event.data["number"])
        self.arrives.set()


async def test_several_relays_keep_the_order_of_a_subject(database: Database) -> None:
    """Also of more events than one relay claims at once, which others then look beyond."""
    told: list[object] = []
    async with contextlib.AsyncExitStack() as stack:
        for delay_s in (0.0, 0.001, 0.002):
            await stack.enter_async_context(_relaying(database, _Told(told, delay_s).handle))
        for first in range(0, 400, 20):
            await _emit_all(database, range(first, first + 20))
        async with asyncio.timeout(60):
            while len(told) < 400:
                await asyncio.sleep(0.01)
    assert told == list(range(400))


async def test_claims_of_relays_at_the_same_moment_never_split_a_subject(
    database: Database,
) -> None:
    """Two who look at once see the same rows unclaimed; the second must not take the rest."""
    await _emit_all(database, range(250))
    relays = [Relay(database, MemoryBus()) for _ in range(4)]
    claims = await asyncio.gather(*(relay._claim(100) for relay in relays))
    assert sorted(len(claim) for claim in claims) == [0, 0, 0, 100]


async def test_what_follows_a_row_that_another_is_just_taking_waits(database: Database) -> None:
    await _emit_all(database, range(3))
    async with database.transaction() as session:
        await session.execute(text("SELECT 1 FROM outbox ORDER BY position LIMIT 1 FOR UPDATE"))
        assert await Relay(database, MemoryBus())._claim(100) == []
    assert len(await Relay(database, MemoryBus())._claim(100)) == 3


async def test_a_relay_whose_claim_ran_out_leaves_the_rest_to_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that stood still: it ends with the event that was on its way."""
    monkeypatch.setattr(outbox, "LEASE_S", 0.3)
    told: list[object] = []
    stuck, go_on = asyncio.Event(), asyncio.Event()

    async def stands_still(event: Envelope) -> None:
        stuck.set()
        await go_on.wait()
        told.append(("late", event.data["number"]))

    class Still(Relay):
        async def _renew_claims(self) -> None:
            await asyncio.Event().wait()

        async def _claim(self, most: int) -> list[Envelope]:
            return [] if stuck.is_set() else await super()._claim(most)

    bus = MemoryBus()
    await bus.subscribe(Subscription("q", ("test.#",), stands_still))
    still = asyncio.create_task(Still(database, bus).run())
    await _emit_all(database, range(5))
    await stuck.wait()
    async with _relaying(database, _Told(told).handle):
        async with asyncio.timeout(20):
            while len(told) < 5:
                await asyncio.sleep(0.01)
        go_on.set()
        async with asyncio.timeout(20):
            while len(told) < 6:
                await asyncio.sleep(0.01)
        await _emit_all(database, range(5, 6))
        async with asyncio.timeout(20):
            while 5 not in told and ("late", 5) not in told:
                await asyncio.sleep(0.01)
    still.cancel()
    await asyncio.gather(still, return_exceptions=True)
    assert told[:6] == [0, 1, 2, 3, 4, ("late", 0)]
    assert len(told) == 7


@contextlib.asynccontextmanager
async def _relaying(database: Database, handler: Handler) -> AsyncIterator[None]:
    bus = MemoryBus()
    await bus.subscribe(Subscription("q", ("test.#",), handler))
    task = asyncio.create_task(Relay(database, bus).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _claimed_until(database: Database) -> datetime:
    async with database.transaction() as session:
        found = await session.execute(text("SELECT claimed_until FROM outbox"))
        moment: datetime = found.scalar_one()
    return moment


async def _record(session: AsyncSession, payload: Happened, event: Envelope) -> None:
    await session.execute(EFFECTS.insert().values(number=payload.number))


async def test_a_redelivered_event_has_its_effect_once(database: Database, bus: MemoryBus) -> None:
    await bus.subscribe(consume(database, "test.effects", on(Happened, _record)))
    event = Envelope.wrap(Happened(number=7), subject="one")
    for _ in range(3):
        await bus.publish(event)
    async with database.transaction() as session:
        assert (await session.execute(select(func.count()).select_from(EFFECTS))).scalar_one() == 1


async def test_a_poison_event_is_parked_and_its_neighbours_go_on(
    database: Database, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "RETRY_DELAYS_S", (0.0,))

    async def refuse_seven(session: AsyncSession, payload: Happened, event: Envelope) -> None:
        if payload.number == 7:
            raise ValueError("seven")
        await _record(session, payload, event)

    await bus.subscribe(consume(database, "test.effects", on(Happened, refuse_seven)))
    for number in (6, 7, 8):
        await bus.publish(Envelope.wrap(Happened(number=number), subject="one"))
    async with database.transaction() as session:
        numbers = (await session.execute(select(EFFECTS.c.number))).scalars().all()
        parked = (await session.execute(text("SELECT error FROM dead_letters"))).scalars().all()
    assert numbers == [6, 8]
    assert parked == ["ValueError('seven')"]


async def test_what_is_not_yet_told_grows_old(database: Database) -> None:
    await _emit_all(database, range(2))
    async with database.transaction() as session:
        await session.execute(
            text(
                "UPDATE outbox SET envelope = jsonb_set(envelope, '{time}', "
                "to_jsonb(now() - interval '90 seconds')) "
                "WHERE (envelope #>> '{data,number}') = '0'"
            )
        )
        count, oldest_s = await outbox.waiting(session)
    assert count == 2
    assert 90 <= oldest_s < 120


async def test_each_event_is_counted_by_what_became_of_it(
    database: Database, bus: MemoryBus, relay: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "RETRY_DELAYS_S", (0.0,))

    async def effect(session: AsyncSession, happened: Happened, _: Envelope) -> None:
        if happened.number == 1:
            raise ValueError("poison")

    def count(outcome: str) -> float:
        labels = {"consumer": "test.counted", "outcome": outcome}
        return REGISTRY.get_sample_value("chusuan_inbox_events_total", labels) or 0.0

    await bus.subscribe(consume(database, "test.counted", on(Happened, effect)))
    await _emit_all(database, range(3))
    async with asyncio.timeout(10):
        while count("handled") < 2 or count("parked") < 1:
            await asyncio.sleep(0.01)
    assert count("failed") == 2
    async with database.transaction() as session:
        assert await inbox.count_dead_letters(session) == 1


async def test_events_that_wait_share_a_transaction_and_one_that_fails_undoes_no_other(
    database: Database, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "RETRY_DELAYS_S", (0.0,))
    monkeypatch.setattr(inbox, "TRANSACTIONS", 1)
    transactions: dict[int, set[int]] = {}

    async def refuse_seven(session: AsyncSession, payload: Happened, event: Envelope) -> None:
        number = await session.execute(text("SELECT txid_current()"))
        transactions.setdefault(number.scalar_one(), set()).add(payload.number)
        await _record(session, payload, event)
        if payload.number == 7:
            raise ValueError("seven")

    await bus.subscribe(consume(database, "test.effects", on(Happened, refuse_seven)))
    events = [Envelope.wrap(Happened(number=n), subject=n) for n in range(12)]
    await asyncio.gather(*(bus.publish(event) for event in events))
    async with database.transaction() as session:
        numbers = (await session.execute(select(EFFECTS.c.number))).scalars().all()
    assert sorted(numbers) == [n for n in range(12) if n != 7]
    assert max(len(together) for together in transactions.values()) > 1


async def test_the_same_event_twice_in_one_transaction_has_one_effect(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "TRANSACTIONS", 1)
    handler = consume(database, "test.effects", on(Happened, _record)).handler
    event = Envelope.wrap(Happened(number=1), subject="one")
    await asyncio.gather(*(handler(event) for _ in range(5)))
    async with database.transaction() as session:
        assert (await session.execute(select(func.count()).select_from(EFFECTS))).scalar_one() == 1


async def test_a_backlog_larger_than_a_relay_holds_leaves_in_order(
    database: Database, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 7)
    monkeypatch.setattr(outbox, "MOST_IN_FLIGHT", 10)
    # None of it is what a poll does.
    monkeypatch.setattr(outbox, "POLL_S", 600)
    done = await _collect(bus, 100)
    await _emit_all(database, range(100))
    task = asyncio.create_task(Relay(database, bus).run())
    try:
        assert await asyncio.wait_for(done, 20) == list(range(100))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
