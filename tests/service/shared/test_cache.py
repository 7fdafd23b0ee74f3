"""A Redis that is away or hangs costs time once, not each time."""

import asyncio

import pytest
from redis.exceptions import RedisError

from shared.cache import open_redis
from tests.redis_server import RedisServer


async def test_a_hanging_redis_holds_up_one_request_half_a_second_and_the_next_ones_not_at_all(
    redis_server: RedisServer,
) -> None:
    redis = open_redis(redis_server.url)
    await redis.set("a", "1")
    redis_server.pause()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(RedisError):
        await redis.get("a")
    assert loop.time() - began < 2
    began = loop.time()
    for _ in range(100):
        with pytest.raises(RedisError):
            await redis.get("a")
    async with redis.pipeline() as pipeline:
        pipeline.get("a")
        with pytest.raises(RedisError):
            await pipeline.execute()
    assert loop.time() - began < 0.5
    redis_server.go_on()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await redis.get("a") == "1"
                break
            except RedisError:
                await asyncio.sleep(0.02)
    await redis.aclose()
