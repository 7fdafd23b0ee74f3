"""How many requests one caller may send. Without Redis nobody is counted: degraded, not dead."""

import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

WINDOW_S = 60
LOTS = 100


@dataclass(slots=True)
class _Count:
    """told: by all gateways, as Redis last said. untold: taken here since."""

    told: int = 0
    untold: int = 0


class RateLimit:
    """A fixed window of one minute. A caller's first request and each hundredth part of what they
    may send is told to Redis: a question for every request would be a quarter of its cost, and
    several gateways are thus at most a part each too generous."""

    def __init__(self, redis: Redis, requests_per_minute: int) -> None:
        self._redis = redis
        self._most = requests_per_minute
        self._lot = max(1, requests_per_minute // LOTS)
        self._window = 0
        self._counts: dict[str, _Count] = {}

    async def wait_s(self, caller: str) -> int:
        """0 when the caller may go on, else the seconds until the next window."""
        now = int(time.time())
        window = now // WINDOW_S
        if window != self._window:
            self._window = window
            self._counts = {}
        count = self._counts.setdefault(caller, _Count())
        count.untold += 1
        if count.told == 0 or count.untold >= self._lot:
            await self._tell(caller, window, count)
        return 0 if count.told + count.untold <= self._most else WINDOW_S - now % WINDOW_S

    async def _tell(self, caller: str, window: int, count: _Count) -> None:
        key = f"gateway:rate:{caller}:{window}"
        taken, count.untold = count.untold, 0
        try:
            count.told = await self._redis.incrby(key, taken)
            if count.told == taken:
                await self._redis.expire(key, 2 * WINDOW_S)
        except (RedisError, OSError):
            count.told = 0
