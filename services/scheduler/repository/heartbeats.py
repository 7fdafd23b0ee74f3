"""Nodes that say what they said before."""

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
    digest: str
    sequence: int
    reported_at: datetime
    looked_since: datetime
    disk_free_bytes: int


# Whoever holds a node's lock is not waited for: its neighbours would wait, too.
_NOTE_HEARTBEATS = text(
    """
    WITH said AS (
        SELECT * FROM unnest(:ids, :digests, :sequences, :reported, :looked, :free)
            AS s (id, digest, sequence, reported_at, looked_since, disk_free_bytes)),
    same AS MATERIALIZED (
        SELECT n.id FROM nodes n JOIN said s ON s.id = n.id
        WHERE n.digest = s.digest AND n.state = 'online' AND NOT n.revoked
          AND n.sequence < s.sequence AND n.usage_proven_at > s.looked_since
        FOR UPDATE OF n SKIP LOCKED)
    UPDATE nodes SET sequence = s.sequence, reported_at = s.reported_at, heard_at = :now,
        disk_free_bytes = s.disk_free_bytes
    FROM said s JOIN same USING (id) WHERE nodes.id = s.id
    RETURNING nodes.id
    """
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid())),
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
    """One statement for reports that say what the one before them said, each of another node; the
    nodes of which it was so. Of the others nothing was written."""
    values = {
        "ids": [each.node_id for each in said],
        "digests": [each.digest for each in said],
        "sequences": [each.sequence for each in said],
        "reported": [each.reported_at for each in said],
        "looked": [each.looked_since for each in said],
        "free": [each.disk_free_bytes for each in said],
        "now": now,
    }
    return set((await session.execute(_NOTE_HEARTBEATS, values)).scalars())
