"""That nodes are heard, whatever they say, and what they say where it is nothing new."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Text


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """looked_since: a whole look is due unless there was one since then."""

    node_id: UUID
    boot_id: str
    digest: str
    sequence: int
    reported_at: datetime
    looked_since: datetime
    disk_free_bytes: int


# Whoever holds a node's lock is not waited for: its neighbours would wait, too.
_NOTE_HEARTBEATS = text(
    """
    WITH said AS (
        SELECT * FROM unnest(:ids, :boots, :digests, :sequences, :reported, :looked, :free)
            AS s (id, boot_id, digest, sequence, reported_at, looked_since, disk_free_bytes)),
    heard AS MATERIALIZED (
        SELECT n.id, n.state = 'online' AND n.digest = s.digest AND n.sequence < s.sequence
            AND (n.usage_proven_at > s.looked_since) IS TRUE AS same
        FROM nodes n JOIN said s ON s.id = n.id
        WHERE n.state IN ('online', 'silent') AND NOT n.revoked
          AND CASE WHEN n.boot_id = s.boot_id THEN n.sequence < s.sequence
              ELSE n.reported_at < s.reported_at END
        FOR UPDATE OF n SKIP LOCKED)
    UPDATE nodes SET heard_at = :now,
        sequence = CASE WHEN same THEN s.sequence ELSE nodes.sequence END,
        reported_at = CASE WHEN same THEN s.reported_at ELSE nodes.reported_at END,
        disk_free_bytes = CASE WHEN same THEN s.disk_free_bytes ELSE nodes.disk_free_bytes END
    FROM said s JOIN heard USING (id) WHERE nodes.id = s.id
    RETURNING nodes.id, same
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
    bindparam("boots", type_=ARRAY(Text())),
    bindparam("digests", type_=ARRAY(Text())),
    bindparam("sequences", type_=ARRAY(BigInteger())),
    bindparam("reported", type_=ARRAY(DateTime(timezone=True))),
    bindparam("looked", type_=ARRAY(DateTime(timezone=True))),
    bindparam("free", type_=ARRAY(BigInteger())),
    bindparam("now", type_=DateTime(timezone=True)),
)


async def note_heartbeats(
    session: AsyncSession, said: Sequence[Heartbeat], now: datetime
) -> set[UUID]:
    """One statement for reports, each of another node: all that are newer than what is known are
    heard. The nodes that said what they said before: with them this was all; of the others nothing
    else was written."""
    values = {
        "ids": [each.node_id for each in said],
        "boots": [each.boot_id for each in said],
        "digests": [each.digest for each in said],
        "sequences": [each.sequence for each in said],
        "reported": [each.reported_at for each in said],
        "looked": [each.looked_since for each in said],
        "free": [each.disk_free_bytes for each in said],
        "now": now,
    }
    rows = await session.execute(_NOTE_HEARTBEATS, values)
    return {row.id for row in rows if row.same}
