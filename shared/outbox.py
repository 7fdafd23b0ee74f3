"""Events are written in the transaction that makes them true, and relayed after its commit.

`emit` writes the row; `Relay` claims rows with a lease (`SKIP LOCKED`), publishes them and marks
them; every copy of a service has one. Events of one subject leave in the order in which they were
written, each after the bus has taken the one before; those of different subjects leave together,
and what was taken is marked together. A crash between publish and mark, or a claim that ran out,
sends one twice, which the inbox absorbs.

What was told stays for a while (`outbox_kept_s`), so that it can be told again where somebody lost
it (`shared/retelling.py`).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
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
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import Bus, Undeliverable
from shared.crashing import crash_points
from shared.database import OUTBOX_WRITTEN, Database, call_after_commit, database_now
from shared.events.envelope import Envelope, Payload
from shared.ids import first_id
from shared.metrics import OUTBOX_FAILURES, OUTBOX_PUBLISHED
from shared.telemetry import continued
from shared.worker import Worker

log = structlog.get_logger(__name__)

BATCH = 500
# Claimed and not yet marked: what a relay holds in memory while the bus is slow or away.
MOST_IN_FLIGHT = 2000
# What a killed relay had claimed waits so long; a living one renews its claims.
LEASE_S = 6
POLL_S = 1.0
# The first event after a quiet moment leaves at once; those that follow so soon leave together.
GATHER_S = 0.01
MARK_EVERY_S = 0.05
RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
CLEARING_S = 3600.0

_outbox = table(
    "outbox",
    column("id", Uuid()),
    column("position", BigInteger()),
    column("subject", Text()),
    column("envelope", JSONB()),
    column("claimed_until", DateTime(timezone=True)),
    column("published_at", DateTime(timezone=True)),
)

_MARK = text("UPDATE outbox SET published_at = now() WHERE id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(Uuid()))
)

_RENEW = text(
    """
    UPDATE outbox SET claimed_until = now() + make_interval(secs => :lease)
    WHERE id = ANY(:ids) AND published_at IS NULL
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))

# A subject with an event in flight at another relay waits: its order must hold. Rows that another
# is just claiming, renewing or marking are skipped as locked, and what follows them waits, too.
_CLAIM = text(
    """
    WITH picked AS MATERIALIZED (
        SELECT id, subject, position FROM outbox
        WHERE published_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
          AND subject NOT IN (
            SELECT subject FROM outbox
            WHERE published_at IS NULL AND claimed_until >= now()
              AND id NOT IN (SELECT unnest(:mine)))
        ORDER BY position LIMIT :batch FOR UPDATE SKIP LOCKED),
    skipped AS (
        SELECT subject, min(position) AS position FROM outbox
        WHERE published_at IS NULL AND subject IN (SELECT subject FROM picked)
          AND id NOT IN (SELECT id FROM picked) AND id NOT IN (SELECT unnest(:mine))
        GROUP BY subject)
    UPDATE outbox SET claimed_until = now() + make_interval(secs => :lease)
    FROM picked LEFT JOIN skipped USING (subject)
    WHERE outbox.id = picked.id
      AND (skipped.position IS NULL OR picked.position < skipped.position)
    RETURNING outbox.position, outbox.envelope
    """
).bindparams(bindparam("mine", type_=ARRAY(Uuid())))


# Nothing is told before its id is made, so that the index bounds what is looked at.
_FORGET = text("DELETE FROM outbox WHERE id < :first AND published_at < :oldest")


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


async def emit_all(session: AsyncSession, events: Sequence[tuple[Payload, object, int]]) -> None:
    """Many at once, each with its subject and sequence; they leave in this order."""
    if not events:
        return
    wrapped = [
        Envelope.wrap(payload, subject=subject, sequence=sequence)
        for payload, subject, sequence in events
    ]
    await session.execute(
        _outbox.insert().values(
            [
                {"id": e.id, "subject": e.subject, "envelope": e.model_dump(mode="json")}
                for e in wrapped
            ]
        )
    )
    call_after_commit(session, session.info[OUTBOX_WRITTEN].set)


class Relay:
    """Carries one service's outbox to the bus. Several copies may run side by side."""

    def __init__(self, database: Database, bus: Bus, service: str = "") -> None:
        self._database = database
        self._service = service
        self._bus = bus
        self._awake = database.outbox_written
        # Until when by our own clock, which goes on while we stand still.
        self._claimed: dict[UUID, float] = {}
        self._lanes: dict[str, deque[Envelope]] = {}
        self._taken: list[UUID] = []
        self._some_taken = asyncio.Event()
        self._is_full = False

    async def run(self) -> None:
        """Until cancelled."""
        tasks = {asyncio.create_task(self._renew_claims()), asyncio.create_task(self._mark_taken())}
        try:
            while True:
                self._awake.clear()
                # In whole batches: a claim costs the same for few as for many.
                self._is_full = not self._has_room()
                claimed = [] if self._is_full else await self._claim_or_wait()
                for subject in self._line_up(claimed):
                    task = asyncio.create_task(self._publish(subject))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                if 0 < len(claimed) < BATCH:
                    await asyncio.sleep(GATHER_S)
                if len(claimed) < BATCH:
                    # Not wait_for: on Python 3.11 it can swallow a cancellation (gh-86296).
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._awake.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _has_room(self) -> bool:
        return len(self._claimed) + BATCH <= MOST_IN_FLIGHT

    async def _claim_or_wait(self) -> list[Envelope]:
        try:
            return await self._claim(BATCH)
        except Exception as error:
            # Mostly the database is away. Whatever it is: its rows wait, and a relay that ended
            # would be silence.
            log.warning("outbox_unreachable", error=repr(error))
            return []

    async def _renew_claims(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            asked_at = time.monotonic()
            # One that ran out may be another relay's by now.
            held = [id_ for id_, until in self._claimed.items() if until > asked_at]
            if not held:
                continue
            try:
                async with self._database.transaction() as session:
                    await session.execute(_RENEW, {"ids": held, "lease": LEASE_S})
            except Exception as error:
                log.warning("outbox_unreachable", error=repr(error))
            else:
                self._claimed |= {id_: asked_at + LEASE_S for id_ in held if id_ in self._claimed}

    async def _claim(self, most: int) -> list[Envelope]:
        asked_at = time.monotonic()
        mine = [id_ for id_, until in self._claimed.items() if until > asked_at]
        values = {"lease": LEASE_S, "batch": most, "mine": mine}
        async with self._database.transaction() as session:
            rows = (await session.execute(_CLAIM, values)).all()
        claimed = [Envelope.model_validate(row.envelope) for row in sorted(rows)]
        # One that is known already was not told in time, and is still in its lane.
        fresh = [event for event in claimed if event.id not in self._claimed]
        self._claimed |= {event.id: asked_at + LEASE_S for event in claimed}
        return fresh

    def _line_up(self, claimed: list[Envelope]) -> list[str]:
        """Behind those of its subject; the subjects that nobody is working on."""
        idle = []
        for event in claimed:
            lane = self._lanes.get(event.subject)
            if lane is None:
                lane = self._lanes[event.subject] = deque()
                idle.append(event.subject)
            lane.append(event)
        return idle

    async def _publish(self, subject: str) -> None:
        lane = self._lanes[subject]
        while lane and await self._publish_until_taken(lane[0]):
            OUTBOX_PUBLISHED.labels(self._service).inc()
            self._taken.append(lane.popleft().id)
            self._some_taken.set()
        for event in lane:
            self._claimed.pop(event.id, None)
        del self._lanes[subject]

    async def _publish_until_taken(self, event: Envelope) -> bool:
        """False: we stood still, and another relay goes on with this subject."""
        pause_s = RETRY_S
        while time.monotonic() < self._claimed[event.id]:
            try:
                telling = continued(self._service, f"tell {event.type}", event.traceparent)
                with crash_points(f"outbox.{event.type}"), telling:
                    await self._bus.publish(event)
            except Undeliverable as undeliverable:
                OUTBOX_FAILURES.labels(self._service).inc()
                log.warning("event_undeliverable", event_type=event.type, reason=str(undeliverable))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_RETRY_S)
            else:
                return True
        log.warning("outbox_claim_ran_out", event_type=event.type)
        return False

    async def _mark_taken(self) -> None:
        while True:
            await self._some_taken.wait()
            await asyncio.sleep(MARK_EVERY_S)
            self._some_taken.clear()
            ids, self._taken = self._taken, []
            try:
                async with self._database.transaction() as session:
                    await session.execute(_MARK, {"ids": ids})
            except Exception as error:
                # Told, but not marked: they are told again when their claims have run out.
                log.warning("outbox_unreachable", error=repr(error))
            finally:
                for id_ in ids:
                    self._claimed.pop(id_, None)
            if self._is_full and self._has_room():
                self._awake.set()


async def count_waiting(session: AsyncSession) -> int:
    """Events that are true but not yet told; a number that keeps rising is an alarm."""
    return (await waiting(session))[0]


async def waiting(session: AsyncSession) -> tuple[int, float]:
    """How many events are not yet told, and how old the oldest is, in seconds."""
    statement = text(
        """
        SELECT count(*), coalesce(extract(epoch FROM
            now() - min(CAST(envelope ->> 'time' AS timestamptz))), 0)
        FROM outbox WHERE published_at IS NULL
        """
    )
    count, oldest_s = (await session.execute(statement)).one()
    return int(count), max(0.0, float(oldest_s))


async def forget_told(session: AsyncSession, kept: timedelta) -> None:
    """Drop what was told longer ago than that."""
    oldest = await database_now(session) - kept
    await session.execute(_FORGET, {"oldest": oldest, "first": first_id(oldest)})


def clearing(database: Database, service: str, kept: timedelta) -> Worker:
    """In each copy: a second one finds nothing left."""

    async def step() -> None:
        async with database.transaction() as session:
            await forget_told(session, kept)

    return Worker(f"{service}.outbox_clearing", CLEARING_S, step)
