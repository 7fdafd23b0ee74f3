"""F25 and F30: the database and Redis die under load."""

import asyncio
import signal

import httpx
import pytest

from shared.ids import new_id
from tests.e2e.people import run
from tests.e2e.waiting import until
from tests.fault.flows import World
from tests.fault.invariants import broken
from tests.fault.split.breaking import crash_postgres
from tests.fault.split.rest import comes_to_rest
from tests.fault.split.topology import Split
from tests.fault.split.work import another, answered, at_work, still_answers

pytestmark = pytest.mark.slow


async def test_what_was_answered_stands_when_postgres_is_ended_at_once(
    world: World, topology: Split
) -> None:
    """F25: twice under load."""
    async with at_work(world):
        for _ in range(2):
            await asyncio.sleep(2)
            await crash_postgres(topology.platform)
            assert await broken(topology) == []
    await comes_to_rest(topology)


async def log_out_and_keep_the_token(world: World) -> httpx.AsyncClient:
    """A client whose session has ended, its token with it."""
    person = (await another(world)).user
    http = httpx.AsyncClient(base_url=f"{person.url}/api/v1", trust_env=False, timeout=15)
    login = {"username": person.name, "password": person.password}
    token = answered(await http.post("/sessions", json=login))["access_token"]
    http.headers["authorization"] = f"Bearer {token}"
    answered(await http.get("/wallet"))
    answered(await http.delete("/sessions/current"))
    await person.close()
    return http


async def stays_refused(http: httpx.AsyncClient) -> None:
    for path in ("/wallet", "/instances", "/images", "/files?path=/", "/accounts/me"):
        assert (await http.get(path)).status_code == 401, path


async def becomes_refused(http: httpx.AsyncClient) -> None:
    async def is_refused() -> bool:
        return (await http.get("/wallet")).status_code == 401

    await until(is_refused, timeout_s=10, what="the token is void")


async def test_redis_is_killed_flushed_and_paused_and_no_ended_session_lives_on(
    world: World, topology: Split
) -> None:
    """F30, I24, I28."""
    redis = topology.platform.redis
    port = redis.command[redis.command.index("--port") + 1]
    async with at_work(world):
        gone = await log_out_and_keep_the_token(world)
        await becomes_refused(gone)
        await run("redis-cli", "-p", port, "FLUSHALL")
        await stays_refused(gone)

        await redis.kill()
        await still_answers(world)
        await stays_refused(gone)
        late = await log_out_and_keep_the_token(world)
        await becomes_refused(late)
        await redis.start()
        await stays_refused(late)

        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        try:
            await still_answers(world)
            paused = await log_out_and_keep_the_token(world)
            await becomes_refused(paused)
        finally:
            redis.process.send_signal(signal.SIGCONT)
        for http in (gone, late, paused):
            await stays_refused(http)
            await http.aclose()
        assert await broken(topology) == []
    key = str(new_id())
    body = {"amount": "1.00", "note": "one key"}
    path = f"/wallets/{world.account_id}/credits"
    first = await world.operator.post(path, body, key=key)
    await run("redis-cli", "-p", port, "FLUSHALL")
    assert await world.operator.post(path, body, key=key) == first
    await comes_to_rest(topology)
