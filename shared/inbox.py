"""Each event has its effect exactly once, however often it arrives.

`consume` makes a bus handler of a use case: the event id and the effect share one transaction.
A failing effect is tried again with growing delay, then parked as a dead letter in the consumer's
own database, where an operator lists, inspects and replays it; its neighbours go on.

Events that wait while others commit share the next transaction, in their order of arrival, so that
a backlog costs one commit for many. When one of them fails, each is tried by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy import (
    Column,
    DateTime,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    column,
    func,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import Subscription, matches
from shared.database import Database
from shared.events.envelope import Envelope, Payload

log = structlog.get_logger(__name__)

# At once, for each queue of each copy of a service.
TRANSACTIONS = 2
MOST_TOGETHER = 100
# A transaction that follows another waits so long for more to join it.
GATHER_S = 0.005
RETRY_DELAYS_S = (0.05, 0.2, 1.0, 3.0)

P = TypeVar("P", bound=Payload)
Effect = Callable[[AsyncSession, P, Envelope], Awaitable[None]]

_REMEMBER = text(
    """
    INSERT INTO inbox (consumer, event_id) SELECT :consumer, unnest(:ids)
    ON CONFLICT DO NOTHING RETURNING event_id
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))
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

    async def apply(events: Sequence[Envelope]) -> None:
        async with database.transaction() as session:
            fresh = await _remember(session, queue, events)
            for event in events:
                if event.id not in fresh:
                    continue
                fresh.discard(event.id)
                for listener in listeners:
                    if matches(listener.pattern, event.type):
                        await listener.apply(session, event)
                if session.new or session.identity_map:
                    # An effect reads the rows as they are, not as its neighbour has loaded them.
                    await session.flush()
                    session.expunge_all()

    together = _Together(apply)

    async def handle(event: Envelope) -> None:
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                return await together.apply(event)
            except Exception as error:
                if _is_away(error):
                    # The bus keeps the event and brings it again.
                    raise
                log.warning("event_failed", queue=queue, event_type=event.type, error=repr(error))
                if delay_s is None:
                    await _park(database, queue, event, error)
                    return None
                await asyncio.sleep(delay_s)

    return Subscription(queue, tuple(listener.pattern for listener in listeners), handle)


async def _remember(session: AsyncSession, queue: str, events: Sequence[Envelope]) -> set[UUID]:
    """The ids that were not known before."""
    values = {"consumer": queue, "ids": [event.id for event in events]}
    return set((await session.execute(_REMEMBER, values)).scalars())


@dataclass(eq=False, slots=True)
class _Waiting:
    event: Envelope
    done: asyncio.Future[None]

    def end(self, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


@dataclass(eq=False, slots=True)
class _Together:
    """Runs up to TRANSACTIONS at once; an event that finds them all busy joins the next."""

    commit: Callable[[Sequence[Envelope]], Awaitable[None]]
    waiting: list[_Waiting] = field(default_factory=list)
    busy: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def apply(self, event: Envelope) -> None:
        """Returns after the commit. Raises what the effect raised."""
        one = _Waiting(event, asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        if self.busy < TRANSACTIONS:
            self.busy += 1
            task = asyncio.create_task(self._work())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        await one.done

    async def _work(self) -> None:
        try:
            while self.waiting:
                batch = self.waiting[:MOST_TOGETHER]
                del self.waiting[: len(batch)]
                await self._settle(batch)
                if len(self.waiting) < MOST_TOGETHER:
                    await asyncio.sleep(GATHER_S)
        finally:
            self.busy -= 1

    async def _settle(self, batch: list[_Waiting]) -> None:
        try:
            await self.commit([one.event for one in batch])
        except Exception as error:
            if len(batch) > 1 and not _is_away(error):
                for one in batch:
                    await self._settle([one])
                return
            for one in batch:
                one.end(error)
        else:
            for one in batch:
                one.end(None)


def _is_away(error: Exception) -> bool:
    """Whether it is the database that failed, not the effect."""
    if isinstance(error, OperationalError | OSError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


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
