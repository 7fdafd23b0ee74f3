"""Sessions that ended so lately that access tokens of theirs may still be about.

Auth's rows are the truth. Auth tells them in Redis, in one sorted set, by the time of their end,
beside a mark that says up to when the set is whole. Whoever checks tokens keeps the set in its own
memory and reads once a second what is new, so a check costs nothing; where Redis is away, was
flushed, or its mark stands still, it asks auth itself. With auth away as well, a token is good
until its own end (15 minutes).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import DomainError
from shared.http import ServiceToken, call
from shared.tokens import LEEWAY_S, MOST_TOKEN_LIVES_S

log = structlog.get_logger(__name__)

KEY = "auth:ended-sessions"
MARK = "whole-until"
PATH = "/internal/ended-sessions"
REFRESH_S = 1.0
# An end may become visible so much later than the time it bears.
OVERLAP_S = 60.0
STANDS_STILL_S = 3.0
# Beyond this no token of an ended session is valid any more.
KEEP_S = MOST_TOKEN_LIVES_S + LEEWAY_S + OVERLAP_S


class EndedSession(BaseModel):
    """ended_at: seconds since 1970, by auth's database."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    ended_at: float


class EndedSessions(BaseModel):
    """whole_until: every end up to then is in it, or was before the time that was asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    whole_until: float = Field(ge=0)
    sessions: list[EndedSession]


class Revocations:
    """What one process knows; `session_id in revocations`."""

    def __init__(self) -> None:
        self._ended: dict[UUID, float] = {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._ended

    def note(self, ended: Mapping[UUID, float]) -> None:
        """When each ended, in seconds since 1970."""
        self._ended.update(ended)

    def forget_before(self, moment: float) -> None:
        self._ended = {id_: at for id_, at in self._ended.items() if at >= moment}


@dataclass(frozen=True, slots=True)
class _Heard:
    whole_until: float
    ended: dict[UUID, float]


class RevocationWatch:
    """Keeps `revocations` at most about REFRESH_S behind."""

    def __init__(
        self, revocations: Revocations, redis: Redis, auth: httpx.AsyncClient, token: ServiceToken
    ) -> None:
        self._revocations = revocations
        self._redis = redis
        self._auth = auth
        self._token = token
        self._known_until = 0.0
        self._mark = 0.0
        self._mark_moved_at = time.monotonic()
        self._is_blind = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.refresh()
            except Exception as error:
                log.exception("revocations_not_read", exc_info=error)
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        since = max(self._known_until - OVERLAP_S, 0.0)
        heard = await self._from_redis(since) or await self._from_auth(since)
        if heard is None:
            if not self._is_blind:
                log.warning("revocations_unknown")
            self._is_blind = True
            return
        self._is_blind = False
        self._revocations.note(heard.ended)
        self._revocations.forget_before(heard.whole_until - KEEP_S)
        # Never back: what a restored Redis lacks was known before.
        self._known_until = max(self._known_until, heard.whole_until)

    async def _from_redis(self, since: float) -> _Heard | None:
        try:
            rows = await self._redis.zrangebyscore(KEY, since, "+inf", withscores=True)
        except (RedisError, OSError) as error:
            log.debug("revocations_not_in_redis", error=repr(error))
            return None
        ended = {str(row[0]): float(row[1]) for row in rows}
        mark = ended.pop(MARK, None)
        if mark is None:
            return None
        if mark != self._mark:
            self._mark, self._mark_moved_at = mark, time.monotonic()
        if time.monotonic() - self._mark_moved_at > STANDS_STILL_S:
            return None
        return _Heard(mark, {UUID(name): at for name, at in ended.items()})

    async def _from_auth(self, since: float) -> _Heard | None:
        try:
            token = await self._token.get()
            answer = await call(self._auth, "GET", PATH, token=token, params={"since": str(since)})
            told = EndedSessions.model_validate_json(answer.content)
        except (DomainError, ValueError) as error:
            log.debug("revocations_not_at_auth", error=repr(error))
            return None
        return _Heard(told.whole_until, {each.id: each.ended_at for each in told.sessions})
