"""How often an address may fail to join, counted in Redis.

An attempt is counted before it is made; a success gives it back. With Redis away nothing is
counted: a secret of 32 random bytes is not found by trying.
"""

import asyncio
import hashlib

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.scheduler.errors import TooManyAttempts

log = structlog.get_logger(__name__)

ATTEMPTS = 30
WINDOW_S = 60
REDIS_TIMEOUT_S = 1.0


class JoinThrottle:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, address: str) -> None:
        """Raises TooManyAttempts with `retry_after_s`."""
        key = _key(address)
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S), self._redis.pipeline() as pipeline:
                pipeline.set(key, 0, ex=WINDOW_S, nx=True)
                pipeline.incr(key)
                pipeline.ttl(key)
                _, attempts, ttl_s = await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("throttle_away", error=repr(error))
            return
        if attempts > ATTEMPTS:
            raise TooManyAttempts(retry_after_s=max(1, ttl_s))

    async def give_back(self, address: str) -> None:
        """It was no failure after all."""
        key = _key(address)
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                if await self._redis.exists(key):
                    await self._redis.decr(key)
        except (RedisError, OSError) as error:
            log.warning("throttle_away", error=repr(error))


def _key(address: str) -> str:
    return f"scheduler:join:{hashlib.sha256(address.encode()).hexdigest()}"
