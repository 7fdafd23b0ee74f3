"""Each event has its effect exactly once, however often it arrives.

`consume` makes a bus handler of a use case: the event id and the effect share one transaction.
A failing effect is tried again with growing delay, then parked as a dead letter in the consumer's
own database, where an operator lists, inspects and replays it; its neighbours go on.

Events that wait while others commit share the next transaction, in their order of arrival, so that
a backlog costs one commit for many. When one of them fails, each is tried by itself.

What was handled is never forgotten: whoever begins to drop these rows must keep them for longer
than any service may tell a fact again (`outbox_kept_s`).
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
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    column,
    func,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import Handler, Subscription, matches
from shared.crashing import doing
from shared.database import Database
from shared.events.envelope import Envelope, Payload
from shared.metrics import INBOX_EVENTS, INBOX_SECONDS
from shared.telemetry import continued

log = structlog.get_logger(__name__)

# At once, for each queue of each copy of a service.
TRANSACTIONS = 2
MOST_TOGETHER = 100
# A transaction that follows another waits so long for more to join it.
GATHER_S = 0.005
RETRY_DELAYS_S = (0.05, 0.2, 1.0, 3.0)
ERROR_CHARACTERS = 2000

P = TypeVar("P", bound=Payload)
Effect = Callable[[AsyncSession, P, Envelope], Awaitable[None]]

_REMEMBER = text(
    """
    INSERT INTO inbox (consumer, event_id) SELECT :consumer, unnest(:ids)
    ON CONFLICT DO NOTHING RETURNING event_id
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))
INBOX = table(
    "inbox",
    column("consumer", Text()),
    column("event_id", Uuid()),
    column("received_at", DateTime(timezone=True)),
)
DEAD_LETTERS = table(
    "dead_letters",
    column("consumer", Text()),
    column("event_id", Uuid()),
    column("type", Text()),
    column("envelope", JSONB()),
    column("error", Text()),
    column("attempts", Integer()),
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
        Column("attempts", Integer(), nullable=False, server_default="1"),
        Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )


class UnknownVersion(Exception):
    """Told in a shape that nobody here can read: parked until a reader of it is installed."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One kind of event and what it does here; made by `on` or `on_any`.
    version: of the payload that it reads; None: whatever it is."""

    pattern: str
    apply: Callable[[AsyncSession, Envelope], Awaitable[None]]
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A bus handler whose effects can be had again: what `consume` hands to the bus.

    effects: what events do, with their inbox rows, in the caller's transaction; those that were
    done before do nothing. Raises whatever an effect raises.
    """

    handle: Handler
    effects: Callable[[AsyncSession, Sequence[Envelope]], Awaitable[None]]

    async def __call__(self, event: Envelope) -> None:
        await self.handle(event)


def on(payload: type[P], effect: Effect[P]) -> Listener:
    async def apply(session: AsyncSession, event: Envelope) -> None:
        await effect(session, payload.model_validate(event.data), event)

    return Listener(payload.type, apply, payload.version)


def on_any(pattern: str, effect: Callable[[AsyncSession, Envelope], Awaitable[None]]) -> Listener:
    """For those who keep a record of facts without knowing each kind."""
    return Listener(pattern, effect)


def consume(database: Database, queue: str, *listeners: Listener) -> Subscription:
    """queue: `<service>.<what it keeps>`, the name under which effects are remembered."""

    service = queue.partition(".")[0]

    async def react(session: AsyncSession, event: Envelope) -> None:
        name = f"{queue} takes {event.type}"
        with continued(service, name, event.traceparent):
            for listener in _readers(listeners, event):
                await listener.apply(session, event)

    async def effects(session: AsyncSession, events: Sequence[Envelope]) -> None:
        fresh = await _remember(session, queue, events)
        for event in events:
            if event.id not in fresh:
                continue
            fresh.discard(event.id)
            await react(session, event)
            if session.new or session.identity_map:
                # An effect reads the rows as they are, not as its neighbour has loaded them.
                await session.flush()
                session.expunge_all()

    async def apply(events: Sequence[Envelope]) -> None:
        async with database.transaction() as session:
            await effects(session, events)

    together = _Together(apply)

    async def handle(event: Envelope) -> None:
        with INBOX_SECONDS.labels(queue).time():
            await try_out(event)

    async def try_out(event: Envelope) -> None:
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                with doing(lambda: f"{queue}.{event.type}"):
                    await together.apply(event)
                INBOX_EVENTS.labels(queue, "handled").inc()
                return None
            except OSError:
                # The database is away: the bus keeps the event and brings it again.
                raise
            except Exception as error:
                INBOX_EVENTS.labels(queue, "failed").inc()
                log.warning("event_failed", queue=queue, event_type=event.type, error=repr(error))
                if delay_s is None:
                    await _park(database, queue, event, error)
                    return None
                await asyncio.sleep(delay_s)

    patterns = dict.fromkeys(listener.pattern for listener in listeners)
    return Subscription(queue, tuple(patterns), Consumer(handle, effects))


def _readers(listeners: Sequence[Listener], event: Envelope) -> list[Listener]:
    """Raises UnknownVersion when the type is known here, but not in this shape."""
    asked = [listener for listener in listeners if matches(listener.pattern, event.type)]
    readers = [each for each in asked if each.version in (None, event.dataversion)]
    if asked and not readers:
        raise UnknownVersion(f"{event.type} version {event.dataversion}")
    return readers


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
            if len(batch) > 1 and not isinstance(error, OSError):
                for one in batch:
                    await self._settle([one])
                return
            for one in batch:
                one.end(error)
        else:
            for one in batch:
                one.end(None)


async def _park(database: Database, queue: str, event: Envelope, error: Exception) -> None:
    async with database.transaction() as session:
        row = insert(DEAD_LETTERS).values(
            consumer=queue,
            event_id=event.id,
            type=event.type,
            envelope=event.model_dump(mode="json"),
            error=describe(error),
            attempts=len(RETRY_DELAYS_S) + 1,
        )
        await session.execute(row.on_conflict_do_nothing())
    INBOX_EVENTS.labels(queue, "parked").inc()
    log.error("event_parked", queue=queue, event_type=event.type, event_id=str(event.id))


async def count_dead_letters(session: AsyncSession) -> int:
    """Above zero it wants a person."""
    return (await session.execute(select(func.count()).select_from(DEAD_LETTERS))).scalar_one()


def describe(error: Exception) -> str:
    """What an operator reads of it, as the database takes it: valid Unicode without NUL."""
    words = repr(error)[:ERROR_CHARACTERS].replace("\x00", "")
    return words.encode(errors="replace").decode()
