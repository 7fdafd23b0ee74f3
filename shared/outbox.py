"""Events are written in the transaction that makes them true, and relayed after its commit.

`emit` writes the row; `Relay` claims rows with a lease (`SKIP LOCKED`), publishes them and marks
them. Events of one subject leave in the order in which they were written; a crash between publish
and mark sends one twice, which the inbox absorbs.
"""

import asyncio
import contextlib
from collections import defaultdict
from uuid import UUID

import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
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
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import Bus, Undeliverable
from shared.crashing import crash_points
from shared.database import OUTBOX_WRITTEN, Database, call_after_commit
from shared.events.envelope import Envelope, Payload

log = structlog.get_logger(__name__)

BATCH = 100
# What a killed relay had claimed waits so long; a living one renews its claims.
LEASE_S = 6
POLL_S = 1.0
RETRY_S = 0.5
KEEP_PUBLISHED = "7 days"

_outbox = table(
    "outbox",
    column("id", Uuid()),
    column("position", BigInteger()),
    column("subject", Text()),
    column("envelope", JSONB()),
    column("claimed_until", DateTime(timezone=True)),
    column("published_at", DateTime(timezone=True)),
)

_RENEW = text(
    """
    UPDATE outbox SET claimed_until = now() + make_interval(secs => :lease)
    WHERE id = ANY(:ids) AND published_at IS NULL
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))


def define_outbox(metadata: MetaData) -> Table:
    """The table, in the metadata of the service that owns it."""
    return Table(
        "outbox",
        metadata,
        Column("id", Uuid(), primary_key=True),
        Column("position", BigInteger(), Identity(always=True), nullable=False, unique=True),
        Column("subject", Text(), nullable=False),
        Column("envelope", JSONB(), nullable=False),
        Column("claimed_until", DateTime(timezone=True)),
        Column("published_at", DateTime(timezone=True)),
        Index("ix_outbox_waiting", "position", postgresql_where=text("published_at IS NULL")),
    )


async def emit(
    session: AsyncSession,
    payload: Payload,
    *,
    subject: object,
    sequence: int = 0,
    actor: UUID | None = None,
) -> None:
    """Write the event in this transaction; it leaves at once when the transaction commits."""
    envelope = Envelope.wrap(payload, subject=subject, sequence=sequence, actor=actor)
    await session.execute(
        _outbox.insert().values(
            id=envelope.id, subject=envelope.subject, envelope=envelope.model_dump(mode="json")
        )
    )
    call_after_commit(session, session.info[OUTBOX_WRITTEN].set)


class Relay:
    """Carries one service's outbox to the bus. Several copies may run side by side."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._awake = database.outbox_written
        self._claimed: set[UUID] = set()

    async def run(self) -> None:
        """Until cancelled."""
        in_flight: set[asyncio.Task[None]] = {asyncio.create_task(self._renew_claims())}
        try:
            while True:
                self._awake.clear()
                claimed = await self._claim_or_wait()
                for events in _by_subject(claimed).values():
                    task = asyncio.create_task(self._publish(events))
                    in_flight.add(task)
                    task.add_done_callback(in_flight.discard)
                if len(claimed) < BATCH:
                    # Not wait_for: on Python 3.11 it can swallow a cancellation (gh-86296).
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._awake.wait()
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _claim_or_wait(self) -> list[Envelope]:
        try:
            return await self._claim()
        except Exception as error:
            # Mostly the database is away. Whatever it is: its rows wait, and a relay that ended
            # would be silence.
            log.warning("outbox_unreachable", error=repr(error))
            return []

    async def _renew_claims(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if not self._claimed:
                continue
            try:
                async with self._database.transaction() as session:
                    await session.execute(_RENEW, {"ids": list(self._claimed), "lease": LEASE_S})
            except Exception as error:
                log.warning("outbox_unreachable", error=repr(error))

    async def _claim(self) -> list[Envelope]:
        # A subject with an event still in flight waits: its order must hold.
        statement = text(
            """
            UPDATE outbox SET claimed_until = now() + make_interval(secs => :lease)
            WHERE id IN (
                SELECT id FROM outbox AS o
                WHERE published_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
                  AND NOT EXISTS (
                    SELECT 1 FROM outbox AS earlier
                    WHERE earlier.subject = o.subject AND earlier.published_at IS NULL
                      AND earlier.position < o.position AND earlier.claimed_until >= now())
                ORDER BY position LIMIT :batch FOR UPDATE SKIP LOCKED)
            RETURNING position, envelope
            """
        )
        async with self._database.transaction() as session:
            rows = (await session.execute(statement, {"lease": LEASE_S, "batch": BATCH})).all()
        return [Envelope.model_validate(row.envelope) for row in sorted(rows)]

    async def _publish(self, events: list[Envelope]) -> None:
        ids = {event.id for event in events}
        self._claimed |= ids
        try:
            await self._publish_in_order(events)
        except OSError as error:
            # Told perhaps, but not marked: it is told again when the claim has run out.
            log.warning("outbox_unreachable", error=repr(error))
        finally:
            self._claimed -= ids

    async def _publish_in_order(self, events: list[Envelope]) -> None:
        for event in events:
            while True:
                try:
                    with crash_points(f"outbox.{event.type}"):
                        await self._bus.publish(event)
                    break
                except Undeliverable as undeliverable:
                    log.warning(
                        "event_undeliverable", event_type=event.type, reason=str(undeliverable)
                    )
                    await asyncio.sleep(RETRY_S)
            async with self._database.transaction() as session:
                await session.execute(
                    update(_outbox).where(_outbox.c.id == event.id).values(published_at=func.now())
                )
        self._awake.set()


def _by_subject(events: list[Envelope]) -> dict[str, list[Envelope]]:
    groups: dict[str, list[Envelope]] = defaultdict(list)
    for event in events:
        groups[event.subject].append(event)
    return groups


async def count_waiting(session: AsyncSession) -> int:
    """Events that are true but not yet told; a number that keeps rising is an alarm."""
    statement = select(func.count()).select_from(_outbox).where(_outbox.c.published_at.is_(None))
    return (await session.execute(statement)).scalar_one()


async def forget_published(session: AsyncSession) -> None:
    """Drop what was told long ago."""
    await session.execute(
        text(f"DELETE FROM outbox WHERE published_at < now() - interval '{KEEP_PUBLISHED}'")  # noqa: S608 - a constant of ours
    )
