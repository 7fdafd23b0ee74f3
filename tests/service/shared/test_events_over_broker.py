"""From the outbox over a real broker to the inbox: one effect for each event, whatever breaks."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import aio_pika
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus import AmqpBus, Handler, Subscription
from shared.clock import utc_now
from shared.database import Database
from shared.events import Envelope
from shared.ids import new_id
from shared.inbox import consume, on
from shared.outbox import Relay, count_waiting, emit
from shared.retelling import Retelling
from tests.broker import Broker, installed
from tests.contract.test_bus_on_broker import until
from tests.service.shared.test_outbox_inbox import EFFECTS, METADATA, Happened

SUBJECTS = 10


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()


@pytest.fixture
async def bus(broker_url: str) -> AsyncIterator[AmqpBus]:
    bus = AmqpBus(broker_url)
    yield bus
    await bus.close()


@pytest.fixture
async def relay(database: Database, bus: AmqpBus) -> AsyncIterator[None]:
    task = asyncio.create_task(Relay(database, bus).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def record(session: AsyncSession, payload: Happened, event: Envelope) -> None:
    await session.execute(EFFECTS.insert().values(number=payload.number))


async def emit_all(database: Database, numbers: range) -> None:
    for number in numbers:
        async with database.transaction() as session:
            await emit(session, Happened(number=number), subject=number % SUBJECTS)


async def effects(database: Database) -> list[int]:
    async with database.transaction() as session:
        return list((await session.execute(select(EFFECTS.c.number))).scalars())


@pytest.mark.parametrize("how", ["kill", "close_all_connections"])
async def test_each_committed_event_has_one_effect_though_the_broker_breaks_in_the_midst(
    broker: Broker, database: Database, bus: AmqpBus, relay: None, how: str
) -> None:
    await bus.subscribe(consume(database, "test.effects", on(Happened, record)))
    await broker.settle()
    count = 600
    writing = asyncio.create_task(emit_all(database, range(count)))

    async def some_arrived() -> bool:
        return len(await effects(database)) > 50

    await until(some_arrived)
    if how == "kill":
        await broker.kill()
        await broker.start()
    else:
        await broker.ctl("close_all_connections", "test")
    await writing

    async def all_arrived() -> bool:
        return len(await effects(database)) >= count

    await until(all_arrived)

    async def none_wait() -> bool:
        async with database.transaction() as session:
            return await count_waiting(session) == 0

    await until(none_wait)
    assert sorted(await effects(database)) == list(range(count))


async def test_what_is_written_while_the_broker_is_away_waits_in_the_outbox(
    broker: Broker, database: Database, bus: AmqpBus, relay: None
) -> None:
    await bus.subscribe(consume(database, "test.effects", on(Happened, record)))
    await broker.stop()
    await emit_all(database, range(20))
    async with database.transaction() as session:
        assert await count_waiting(session) == 20
    await broker.start()

    async def all_arrived() -> bool:
        return len(await effects(database)) == 20

    await until(all_arrived)


async def test_what_a_deleted_queue_missed_is_told_again_and_has_its_effect_once(
    broker_url: str, database: Database, bus: AmqpBus, relay: None
) -> None:
    """The other queue had it all: so nobody noticed at the telling."""
    began = utc_now()
    other: list[object] = []
    subscription = consume(database, "test.effects", on(Happened, record))
    await bus.subscribe(Subscription("test.other", (Happened.type,), _into(other)))
    await bus.subscribe(subscription)
    await emit_all(database, range(10))
    await until(lambda: _has_effects(database, 10))
    await bus.unsubscribe("test.effects")
    async with await aio_pika.connect(broker_url) as connection:
        await (await connection.channel()).queue_delete("test.effects")
    await emit_all(database, range(10, 30))

    async def all_told() -> bool:
        async with database.transaction() as session:
            return await count_waiting(session) == 0

    await until(all_told)
    await bus.subscribe(subscription)
    assert len(await effects(database)) == 10
    await retell(database, began, 30)
    await until(lambda: _has_effects(database, 30))
    assert sorted(await effects(database)) == list(range(30))


async def test_a_broker_that_lost_its_disk_loses_no_fact_once_they_are_told_again(
    database: Database,
) -> None:
    if not installed():
        pytest.skip("rabbitmq-server is not installed: `make test` as root installs it")
    broker, began = Broker(), utc_now()
    await broker.start()
    bus = AmqpBus(broker.url)
    relaying = asyncio.create_task(Relay(database, bus).run())
    busy = asyncio.Event()

    async def wait_then_record(session: AsyncSession, payload: Happened, _: Envelope) -> None:
        await busy.wait()
        await record(session, payload, _)

    try:
        await bus.subscribe(consume(database, "test.effects", on(Happened, wait_then_record)))
        await emit_all(database, range(20))

        async def all_told() -> bool:
            async with database.transaction() as session:
                return await count_waiting(session) == 0

        await until(all_told)
        await broker.kill()
        shutil.rmtree(broker.folder / "data")
        busy.set()
        await broker.start()
        await until(lambda: bus.alive(within_s=1.0))

        async def told_again() -> bool:
            # A telling goes to nobody until the queue stands: repeated, as the guide says.
            await retell(database, began, None)
            return len(await effects(database)) == 20

        await until(told_again)
        assert sorted(await effects(database)) == list(range(20))
    finally:
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)
        await bus.close()
        await broker.close()


async def retell(database: Database, since: datetime, wanted: int | None) -> None:
    retelling = Retelling("market", database, timedelta(days=3))
    count = await retelling.retell(since, None, "test.#", actor=new_id())
    assert wanted is None or count == wanted


async def _has_effects(database: Database, count: int) -> bool:
    return len(await effects(database)) == count


def _into(seen: list[object]) -> Handler:
    async def take(event: Envelope) -> None:
        seen.append(event.data["number"])

    return take
