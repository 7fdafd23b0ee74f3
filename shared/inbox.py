"""Each event has its effect exactly once, however often it arrives.

`consume` makes a bus handler of a use case: the event id and the effect share one transaction.
A failing effect is tried again with growing delay, then parked as a dead letter in the consumer's
own database, where an operator lists, inspects and replays it; its neighbours go on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy import Column, DateTime, MetaData, Table, Text, Uuid, column, func, table
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import Subscription, matches
from shared.crashing import doing
from shared.database import Database
from shared.events.envelope import Envelope, Payload

log = structlog.get_logger(__name__)

RETRY_DELAYS_S = (0.05, 0.2, 1.0, 3.0)

P = TypeVar("P", bound=Payload)
Effect = Callable[[AsyncSession, P, Envelope], Awaitable[None]]

_inbox = table("inbox", column("consumer", Text()), column("event_id", Uuid()))
_dead_letters = table(
    "dead_letters",
    column("consumer", Text()),
    column("event_id", Uuid()),
    column("type", Text()),
    column("envelope", JSONB()),
    column("error", Text()),
    column("parked_at", DateTime(timezone=True)),
)


def define_inbox(metadata: MetaData) -> None:
    """The tables, in the metadata of the service that owns them."""
    Table(
        "inbox",
        metadata,
        Column("consumer", Text(), primary_key=True),
        Column("event_id", Uuid(), primary_key=True),
        Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )
    Table(
        "dead_letters",
        metadata,
        Column("consumer", Text(), primary_key=True),
        Column("event_id", Uuid(), primary_key=True),
        Column("type", Text(), nullable=False),
        Column("envelope", JSONB(), nullable=False),
        Column("error", Text(), nullable=False),
        Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )


@dataclass(frozen=True, slots=True)
class Listener:
    """One kind of event and what it does here; made by `on` or `on_any`."""

    pattern: str
    apply: Callable[[AsyncSession, Envelope], Awaitable[None]]


def on(payload: type[P], effect: Effect[P]) -> Listener:
    async def apply(session: AsyncSession, event: Envelope) -> None:
        await effect(session, payload.model_validate(event.data), event)

    return Listener(payload.type, apply)


def on_any(pattern: str, effect: Callable[[AsyncSession, Envelope], Awaitable[None]]) -> Listener:
    """For those who keep a record of facts without knowing each kind."""
    return Listener(pattern, effect)


def consume(database: Database, queue: str, *listeners: Listener) -> Subscription:
    """queue: `<service>.<what it keeps>`, the name under which effects are remembered."""

    async def apply(event: Envelope) -> None:
        async with database.transaction() as session:
            row = insert(_inbox).values(consumer=queue, event_id=event.id)
            known = await session.execute(row.on_conflict_do_nothing().returning(_inbox.c.event_id))
            if known.first() is None:
                return
            for listener in listeners:
                if matches(listener.pattern, event.type):
                    await listener.apply(session, event)

    async def handle(event: Envelope) -> None:
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                with doing(lambda: f"{queue}.{event.type}"):
                    return await apply(event)
            except OSError:
                # The database is away: the bus keeps the event and brings it again.
                raise
            except Exception as error:
                log.warning("event_failed", queue=queue, event_type=event.type, error=repr(error))
                if delay_s is None:
                    await _park(database, queue, event, error)
                    return None
                await asyncio.sleep(delay_s)

    return Subscription(queue, tuple(listener.pattern for listener in listeners), handle)


async def _park(database: Database, queue: str, event: Envelope, error: Exception) -> None:
    async with database.transaction() as session:
        row = insert(_dead_letters).values(
            consumer=queue,
            event_id=event.id,
            type=event.type,
            envelope=event.model_dump(mode="json"),
            error=repr(error),
        )
        await session.execute(row.on_conflict_do_nothing())
    log.error("event_parked", queue=queue, event_type=event.type, event_id=str(event.id))
