"""Ended sessions are told to everyone who checks tokens: here at once, elsewhere within a second.

The rows are the truth. Each copy of auth reads those that ended lately every second, and at once
after a commit that ended one, and writes them to Redis; a crash in between loses nothing. Where the
mark in Redis is missing or old (flushed, restored from a file), the whole set is written again.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import repository
from shared.database import Database, call_after_commit, database_now
from shared.revocation import KEEP_S, KEY, MARK, OVERLAP_S, EndedSession, EndedSessions, Revocations

log = structlog.get_logger(__name__)


class Revoking:
    """wake: set when there is something to tell."""

    def __init__(self, database: Database, redis: Redis, known: Revocations) -> None:
        self.wake = asyncio.Event()
        self._database = database
        self._redis = redis
        self._known = known
        self._knows_all = False

    def ended(self, session: AsyncSession, ids: Collection[UUID], at: datetime) -> None:
        """By this transaction: their tokens are refused here from its commit on."""
        if ids:
            call_after_commit(session, partial(self._note, tuple(ids), at.timestamp()))

    def _note(self, ids: tuple[UUID, ...], at: float) -> None:
        self._known.note(dict.fromkeys(ids, at))
        self.wake.set()

    async def tell(self) -> None:
        """One pass. With Redis away those who check tokens ask auth instead."""
        async with self._database.transaction() as session:
            now = (await database_now(session)).timestamp()
            since = now - (OVERLAP_S if self._knows_all else KEEP_S)
            recent = await repository.sessions_ended_since(session, since)
        self._known.note(recent)
        self._known.forget_before(now - KEEP_S)
        self._knows_all = True
        try:
            await self._write(now, recent)
        except (RedisError, OSError) as error:
            log.debug("revocations_not_written", error=repr(error))

    async def _write(self, now: float, recent: dict[UUID, float]) -> None:
        mark = await self._redis.zscore(KEY, MARK)
        if mark is None or mark < now - OVERLAP_S / 2:
            async with self._database.transaction() as session:
                recent = await repository.sessions_ended_since(session, now - KEEP_S)
            log.info("revocations_written_anew", count=len(recent))
        scores = {str(id_): at for id_, at in recent.items()} | {MARK: now}
        async with self._redis.pipeline() as pipeline:
            pipeline.zadd(KEY, scores)
            pipeline.zremrangebyscore(KEY, "-inf", now - KEEP_S)
            await pipeline.execute()


async def ended_sessions(session: AsyncSession, since: float) -> EndedSessions:
    """since: seconds since 1970."""
    now = (await database_now(session)).timestamp()
    found = await repository.sessions_ended_since(session, max(since, now - KEEP_S))
    sessions = [EndedSession(id=id_, ended_at=at) for id_, at in found.items()]
    return EndedSessions(whole_until=now, sessions=sessions)


async def is_live(session: AsyncSession, session_id: UUID) -> bool:
    """Neither ended nor over."""
    ends_at = await repository.session_ends_at(session, session_id)
    return ends_at is not None and ends_at - await database_now(session) > timedelta(0)
