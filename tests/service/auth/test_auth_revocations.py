"""A token of an ended session is refused everywhere within two seconds, whatever Redis does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from shared.cache import open_redis
from shared.errors import Unauthenticated
from shared.http import FetchedServiceToken
from shared.revocation import Revocations, RevocationWatch
from shared.tokens import JwksKeySource, Verifier
from shared.worker import stop
from tests.redis_server import RedisServer
from tests.service.auth.conftest import (
    OPERATOR_PASSWORD,
    SECRET,
    House,
    Json,
    Opener,
    bearer,
    credentials,
)

BOUND_S = 2.0


@dataclass
class Away(httpx.AsyncBaseTransport):
    """The way to auth, until it is cut."""

    onward: httpx.AsyncBaseTransport
    cut: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("cut")
        return await self.onward.handle_async_request(request)


@dataclass
class Elsewhere:
    """Another service: it checks tokens for itself. way: to auth."""

    verifier: Verifier
    way: Away

    async def accepts(self, granted: Json) -> bool:
        try:
            await self.verifier.verify(granted["access_token"])
        except Unauthenticated:
            return False
        return True

    async def refuses_soon(self, granted: Json) -> None:
        async with asyncio.timeout(BOUND_S + 0.5):
            while await self.accepts(granted):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def elsewhere(house: House, redis_url: str) -> AsyncIterator[Elsewhere]:
    way = Away(httpx.ASGITransport(house.app))
    auth = httpx.AsyncClient(transport=way, base_url="http://auth")
    redis, known = open_redis(redis_url), Revocations()
    token = FetchedServiceToken(auth, "storage", SecretStr(SECRET))
    watch = asyncio.create_task(RevocationWatch(known, redis, auth, token).run())
    yield Elsewhere(Verifier(JwksKeySource(auth), known), way)
    await stop(watch)
    await redis.aclose()
    await auth.aclose()


async def log_out(house: House, granted: Json) -> None:
    answer = await house.http.delete("/api/v1/sessions/current", headers=bearer(granted))
    assert answer.status_code == 204, answer.text


async def change_password(house: House, account: Json) -> None:
    body = {"current_password": account["password"], "new_password": "another password"}
    headers = bearer(await house.log_in(account))
    answer = await house.http.post("/api/v1/accounts/me/password", json=body, headers=headers)
    assert answer.status_code == 204, answer.text


async def test_the_process_that_ended_a_session_refuses_its_tokens_at_once(house: House) -> None:
    granted = await house.log_in(await house.active())
    await log_out(house, granted)
    me = await house.http.get("/api/v1/accounts/me", headers=bearer(granted))
    assert me.status_code == 401


@pytest.mark.parametrize("how", ["logout", "password", "disabling", "reuse"])
async def test_however_a_session_ends_its_tokens_end_everywhere(
    open_house: Opener, redis_server: RedisServer, how: str
) -> None:
    async with (
        open_house(redis_url=redis_server.url) as house,
        elsewhere(house, redis_server.url) as other,
    ):
        account = await house.active()
        granted = await house.log_in(account)
        assert await other.accepts(granted)
        other.way.cut = True
        match how:
            case "logout":
                await log_out(house, granted)
            case "password":
                await change_password(house, account)
            case "disabling":
                await house.move(account, "disable", reason="test")
            case "reuse":
                await house.refresh(granted["refresh_token"])
                await aged_refreshes(house)
                answer = await house.refresh(granted["refresh_token"])
                assert answer.status_code == 401
        await other.refuses_soon(granted)


async def aged_refreshes(house: House) -> None:
    async with house.database.transaction() as session:
        await session.execute(
            text("UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'")
        )


async def kill(server: RedisServer) -> None:
    await server.kill()


async def flush(server: RedisServer) -> None:
    await server.flush()


async def pause(server: RedisServer) -> None:
    server.pause()


Break = Callable[[RedisServer], Awaitable[None]]


@pytest.mark.parametrize("breaks", [kill, flush, pause])
async def test_login_and_revocation_go_on_while_redis_is_broken(
    open_house: Opener, redis_server: RedisServer, breaks: Break
) -> None:
    async with (
        open_house(redis_url=redis_server.url) as house,
        elsewhere(house, redis_server.url) as other,
    ):
        account = await house.active()
        early = await house.log_in(account)
        ended_before = await house.log_in(account)
        await log_out(house, ended_before)
        await other.refuses_soon(ended_before)
        await breaks(redis_server)
        async with asyncio.timeout(8):
            late = await house.log_in(account)
        assert await other.accepts(late)
        await log_out(house, early)
        await other.refuses_soon(early)
        assert not await other.accepts(ended_before)
        assert await other.accepts(late)


@pytest.mark.parametrize("breaks", [kill, flush])
async def test_what_ended_before_redis_lost_it_is_told_again_to_who_starts_later(
    open_house: Opener, redis_server: RedisServer, breaks: Break
) -> None:
    async with open_house(redis_url=redis_server.url) as house:
        granted = await house.log_in(await house.active())
        await log_out(house, granted)
        await breaks(redis_server)
        if breaks is kill:
            await redis_server.start()
        await marked(redis_server)
        async with elsewhere(house, redis_server.url) as other:
            await jwks_known(other, house)
            other.way.cut = True
            await other.refuses_soon(granted)


async def marked(server: RedisServer) -> None:
    async with asyncio.timeout(10):
        while await server.command("ZSCORE", "auth:ended-sessions", "whole-until") is None:
            await asyncio.sleep(0.02)


async def jwks_known(other: Elsewhere, house: House) -> None:
    admin = {"username": "admin", "password": OPERATOR_PASSWORD}
    answer = await house.http.post("/api/v1/sessions", json=credentials(admin))
    assert await other.accepts(answer.json())


async def test_an_old_redis_that_was_restored_is_not_believed(
    open_house: Opener, redis_server: RedisServer
) -> None:
    """Its mark is of long ago: auth writes everything again."""
    async with open_house(redis_url=redis_server.url) as house:
        granted = await house.log_in(await house.active())
        await log_out(house, granted)
        session_id = str(await only_ended(house))
        await marked(redis_server)
        for _ in range(2):
            await redis_server.command("DEL", "auth:ended-sessions")
            await redis_server.command("ZADD", "auth:ended-sessions", 1, "whole-until")
            async with asyncio.timeout(10):
                while (
                    await redis_server.command("ZSCORE", "auth:ended-sessions", session_id) is None
                ):
                    await asyncio.sleep(0.02)
            await aged_ends(house)


async def only_ended(house: House) -> UUID:
    async with house.database.transaction() as session:
        ended = text("SELECT id FROM sessions WHERE ended_at IS NOT NULL")
        found: UUID = (await session.execute(ended)).scalar_one()
        return found


async def aged_ends(house: House) -> None:
    """Older than what each pass reads anyway."""
    async with house.database.transaction() as session:
        await session.execute(text("UPDATE sessions SET ended_at = ended_at - interval '10 min'"))


async def test_with_redis_and_auth_away_a_good_token_stays_good(
    open_house: Opener, redis_server: RedisServer
) -> None:
    async with (
        open_house(redis_url=redis_server.url) as house,
        elsewhere(house, redis_server.url) as other,
    ):
        granted = await house.log_in(await house.active())
        assert await other.accepts(granted)
        await redis_server.kill()
        other.way.cut = True
        assert await other.accepts(granted)
