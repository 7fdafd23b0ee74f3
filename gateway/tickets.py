"""Who has opened which instance in a browser: one-time tickets, then sessions, both in Redis.

Redis keeps digests only, so that reading it opens nothing.
"""

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Unavailable

TICKET_LIVES_S = 60
SESSION_LIVES_S = 12 * 3600
SECRET_CHARACTERS = 43
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Opener:
    """Who opened it, and with which login: the app is open no longer than that goes on."""

    account_id: UUID
    session_id: UUID | None

    def __str__(self) -> str:
        return f"{self.account_id} {self.session_id or ''}"

    @classmethod
    def read(cls, words: str) -> "Opener":
        account_id, _, session_id = words.partition(" ")
        return cls(UUID(account_id), UUID(session_id) if session_id else None)


class Tickets:
    """All raise Unavailable while Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def issue(self, opener: Opener, instance_id: UUID) -> str:
        """A ticket for one opening within TICKET_LIVES_S."""
        ticket = secrets.token_urlsafe(_SECRET_BYTES)
        key = _key("ticket", instance_id, ticket)
        try:
            await self._redis.set(key, str(opener), ex=TICKET_LIVES_S)
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return ticket

    async def redeem(self, ticket: str, instance_id: UUID) -> str | None:
        """A new session; None when the ticket was used, is too old, or is for another instance."""
        session = secrets.token_urlsafe(_SECRET_BYTES)
        try:
            opener = await self._redis.getdel(_key("ticket", instance_id, ticket))
            if opener is None:
                return None
            key = _key("session", instance_id, session)
            await self._redis.set(key, opener, ex=SESSION_LIVES_S)
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return session

    async def opener_of(self, session: str, instance_id: UUID) -> Opener | None:
        """Whose session it is; it then lives SESSION_LIVES_S anew."""
        try:
            key = _key("session", instance_id, session)
            opener = await self._redis.getex(key, ex=SESSION_LIVES_S)
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return Opener.read(str(opener)) if opener is not None else None


def _key(kind: str, instance_id: UUID, secret: str) -> str:
    return f"gateway:app:{kind}:{hashlib.sha256(f'{instance_id} {secret}'.encode()).hexdigest()}"
