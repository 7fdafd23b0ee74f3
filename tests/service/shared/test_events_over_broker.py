"""From the outbox over a real broker to the inbox: one effect for each event, whatever breaks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus import AmqpBus
from shared.database import Database
from shared.events import Envelope
from shared.inbox import consume, on
from shared.outbox import Relay, count_waiting, emit
from tests.broker import Broker
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
