"""Redis by URL. It holds what may be lost: rates, short tickets. Truth lives in PostgreSQL."""

import fakeredis
from redis.asyncio import Redis

_in_this_process: dict[str, fakeredis.FakeServer] = {}


def open_redis(url: str) -> Redis:
    """`memory://NAME` is one Redis for everyone in this process; else `redis://…`."""
    scheme, _, name = url.partition("://")
    if scheme == "memory":
        server = _in_this_process.setdefault(name, fakeredis.FakeServer())
        return fakeredis.FakeAsyncRedis(server=server, decode_responses=True)
    return Redis.from_url(url, decode_responses=True)
