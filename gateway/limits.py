"""How many requests one caller may send. Without Redis nobody is counted: degraded, not dead."""

import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

WINDOW_S = 60


class RateLimit:
    """A fixed window of one minute."""

    def __init__(self, redis: Redis, requests_per_minute: int) -> None:
        self._redis = redis
        self._most = requests_per_minute

    async def wait_s(self, caller: str) -> int:
        """0 when the caller may go on, else the seconds until the next window."""
        now = int(time.time())
        key = f"gateway:rate:{caller}:{now // WINDOW_S}"
        try:
            count = await self._redis.incr(key)
            if count == 1:
                await self._redis.expire(key, 2 * WINDOW_S)
        except (RedisError, OSError):
            return 0
        return 0 if count <= self._most else WINDOW_S - now % WINDOW_S
