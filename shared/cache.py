"""Redis by URL. It holds what may be lost: rates, short tickets. Truth lives in PostgreSQL.

A Redis that does not answer costs a request half a second at most, and then nobody anything: for a
second everyone is told at once that it is away, and one call finds out whether it is back.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fakeredis
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import TimeoutError as TimedOut

ANSWERS_WITHIN_S = 0.5
PAUSE_S = 1.0

_in_this_process: dict[str, fakeredis.FakeServer] = {}


class Breaker:
    """After a failure refuses for `pause_s`, then lets one through to see."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._refuses_until: float | None = None
        self._is_probing = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises redis' ConnectionError while it refuses."""
        probes = self._refuses_until is not None
        if self._refuses_until is not None:
            if self._is_probing or time.monotonic() < self._refuses_until:
                raise ConnectionFailed("it did not answer a moment ago")
            self._is_probing = True
        try:
            yield
        except (ConnectionFailed, TimedOut, OSError):
            self._refuses_until = time.monotonic() + self._pause_s
            raise
        else:
            self._refuses_until = None
        finally:
            if probes:
                self._is_probing = False


class _Pipeline(Pipeline):
    breaker: Breaker

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with self.breaker.watching():
            return await super().execute(raise_on_error)


class _Redis(Redis):
    breaker: Breaker

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.breaker.watching():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's own

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.breaker = self.breaker
        return made


def open_redis(url: str) -> Redis:
    """`memory://NAME` is one Redis for everyone in this process; else `redis://…`, `rediss://…` or
    `unix:///path`."""
    scheme, _, name = url.partition("://")
    if scheme == "memory":
        server = _in_this_process.setdefault(name, fakeredis.FakeServer())
        return fakeredis.FakeAsyncRedis(server=server, decode_responses=True)
    redis = _Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=ANSWERS_WITHIN_S,
        socket_connect_timeout=ANSWERS_WITHIN_S,
        # A connection that died while it lay idle is no sign that Redis is away.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionFailed,)),
    )
    assert isinstance(redis, _Redis)  # noqa: S101 - redis-py calls it its own class
    redis.breaker = Breaker(PAUSE_S)
    return redis
