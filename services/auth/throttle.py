"""How often something may be tried, counted in Redis.

An attempt is counted before it is made, so that many at once cannot slip through; a success gives
it back. With Redis away nothing is counted and people can still log in.
"""

import hashlib
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.auth.errors import TooManyAttempts

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limit:
    """name: of the counter. per window_s seconds from the first attempt on."""

    name: str
    attempts: int
    window_s: int


class Throttle:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, limit: Limit, whom: str) -> None:
        """Raises TooManyAttempts with `retry_after_s`."""
        key = _key(limit, whom)
        try:
            async with self._redis.pipeline() as pipeline:
                pipeline.set(key, 0, ex=limit.window_s, nx=True)
                pipeline.incr(key)
                pipeline.ttl(key)
                _, attempts, ttl_s = await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("throttle_away", limit=limit.name, error=repr(error))
            return
        if attempts > limit.attempts:
            raise TooManyAttempts(retry_after_s=max(1, ttl_s))

    async def give_back(self, limit: Limit, whom: str) -> None:
        """One attempt was no failure after all."""
        await self._quietly("decr", limit, whom)

    async def forget(self, limit: Limit, whom: str) -> None:
        await self._quietly("delete", limit, whom)

    async def _quietly(self, command: str, limit: Limit, whom: str) -> None:
        key = _key(limit, whom)
        try:
            if command == "delete":
                await self._redis.delete(key)
            elif await self._redis.exists(key):
                await self._redis.decr(key)
        except (RedisError, OSError) as error:
            log.warning("throttle_away", limit=limit.name, error=repr(error))


def _key(limit: Limit, whom: str) -> str:
    """Hashed: the counter needs no names, and a name has no bounds in length."""
    return f"auth:{limit.name}:{hashlib.sha256(whom.encode()).hexdigest()}"
