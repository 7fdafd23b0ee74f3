"""Counting callers, by one gateway and by several."""

from redis.asyncio import Redis

from gateway.limits import RateLimit
from shared.cache import open_redis
from shared.ids import new_id

# Two windows' worth, so that the turn of a minute cannot hide the limit.
TWICE = 2


async def test_a_caller_gets_what_is_allowed_and_no_more() -> None:
    redis = open_redis(f"memory://{new_id()}")
    for most in (1, 30, 1000):
        limit = RateLimit(redis, most)
        waits = [await limit.wait_s(f"a{most}") for _ in range(TWICE * most + 1)]
        assert waits[:most] == [0] * most
        assert max(waits) > 0
        assert await limit.wait_s("another") == 0


async def test_several_gateways_count_together_but_for_a_part_each() -> None:
    redis = open_redis(f"memory://{new_id()}")
    gateways = [RateLimit(redis, 1000) for _ in range(2)]
    passed = 0
    for turn in range(TWICE * 2000):
        passed += await gateways[turn % 2].wait_s("a") == 0
    assert passed <= TWICE * (1000 + 2 * 10)


async def test_nobody_is_refused_while_redis_is_away() -> None:
    redis = Redis.from_url("redis://127.0.0.1:1", decode_responses=True)
    limit = RateLimit(redis, 2)
    assert [await limit.wait_s("a") for _ in range(6)] == [0] * 6
    await redis.aclose()
