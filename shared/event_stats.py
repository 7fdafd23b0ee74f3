"""How a service's events fare: told, handled, left behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# An event's id is a UUIDv7: its first 48 bits are the millisecond in which it was told.
_OUTBOX = text(
    """
    SELECT count(*) AS waiting,
           coalesce(extract(epoch FROM now() - min((envelope->>'time')::timestamptz)), 0)
               AS oldest_age_s
    FROM outbox WHERE published_at IS NULL
    """
)
_CONSUMERS = text(
    """
    SELECT consumer,
           (SELECT count(*) FROM inbox WHERE inbox.consumer = asked.consumer) AS handled,
           newest.received_at AS last_handled_at,
           extract(epoch FROM newest.received_at) - newest.told_at_s AS lag_s,
           (SELECT count(*) FROM dead_letters AS letter WHERE letter.consumer = asked.consumer)
               AS dead_letters
    FROM (SELECT unnest(CAST(:known AS text[])) AS consumer
          UNION SELECT consumer FROM dead_letters) AS asked
    LEFT JOIN LATERAL (
        SELECT received_at,
               ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0
                   AS told_at_s
        FROM inbox WHERE inbox.consumer = asked.consumer ORDER BY event_id DESC LIMIT 1
    ) AS newest ON true
    ORDER BY consumer
    """
)


@dataclass(frozen=True, slots=True)
class ConsumerStats:
    """lag_s: between telling and handling of the newest event that was handled; 0 before any."""

    consumer: str
    handled: int
    last_handled_at: datetime | None
    lag_s: float
    dead_letters: int


@dataclass(frozen=True, slots=True)
class EventStats:
    """outbox_waiting: events that are true but not yet told; outbox_oldest_age_s: of the one that
    has waited longest."""

    service: str
    outbox_waiting: int
    outbox_oldest_age_s: float
    consumers: list[ConsumerStats]

    @property
    def dead_letters(self) -> int:
        return sum(each.dead_letters for each in self.consumers)


async def take_stats(session: AsyncSession, service: str, consumers: Sequence[str]) -> EventStats:
    """consumers: those that listen now; others show while they have dead letters."""
    outbox = (await session.execute(_OUTBOX)).one()
    rows = (await session.execute(_CONSUMERS, {"known": list(consumers)})).all()
    return EventStats(
        service=service,
        outbox_waiting=outbox.waiting,
        outbox_oldest_age_s=max(0.0, float(outbox.oldest_age_s)),
        consumers=[
            ConsumerStats(
                consumer=row.consumer,
                handled=row.handled,
                last_handled_at=row.last_handled_at,
                lag_s=max(0.0, float(row.lag_s or 0)),
                dead_letters=row.dead_letters,
            )
            for row in rows
        ],
    )
