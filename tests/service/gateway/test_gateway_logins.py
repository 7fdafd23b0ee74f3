"""The end of a login ends what was opened with it, everywhere."""

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed

from shared.ids import new_id
from tests.redis_server import RedisServer
from tests.service.gateway.conftest import Doorway, OpenDoorway


async def test_a_token_of_an_ended_session_is_refused_within_two_seconds(
    doorway: Doorway,
) -> None:
    instance, session_id = doorway.new_instance(), new_id()
    assert (await doorway.ask(instance, session_id=session_id)).status_code == 200
    doorway.ended[session_id] = True
    async with asyncio.timeout(2):
        while (await doorway.ask(instance, session_id=session_id)).status_code != 401:
            await asyncio.sleep(0.02)
    assert (await doorway.ask(instance, session_id=new_id())).status_code == 200


async def test_an_open_app_and_its_sockets_end_with_the_login_that_opened_them(
    doorway: Doorway,
) -> None:
    instance, session_id = doorway.new_instance(), new_id()
    url = (await doorway.ask(instance, session_id=session_id)).json()["url"]
    cookie = (await doorway.http.get(url)).headers["set-cookie"].partition(";")[0]
    other = await doorway.opened(instance)
    async with doorway.socket(instance, "socket", cookie) as socket:
        assert (await doorway.get(instance, "lab", cookie)).status_code == 200
        doorway.ended[session_id] = True
        async with asyncio.timeout(3):
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 1008
    assert (await doorway.get(instance, "lab", cookie)).status_code == 401
    assert (await doorway.get(instance, "lab", other)).status_code == 200


async def test_a_gateway_that_never_heard_of_the_end_asks_before_it_opens(
    doorway: Doorway,
) -> None:
    """As after a night: the end is no longer among those that are remembered."""
    instance, session_id = doorway.new_instance(), new_id()
    url = (await doorway.ask(instance, session_id=session_id)).json()["url"]
    cookie = (await doorway.http.get(url)).headers["set-cookie"].partition(";")[0]
    doorway.ended[session_id] = False
    assert (await doorway.get(instance, "lab", cookie)).status_code == 401


@pytest.mark.parametrize("how", ["killed", "hanging"])
async def test_calls_pass_uncounted_while_redis_is_away(
    open_doorway: OpenDoorway, redis_server: RedisServer, how: str
) -> None:
    """And none of them waits for it, but the first."""
    async with open_doorway(redis_url=redis_server.url, requests_per_minute=3) as doorway:
        headers = doorway.identity.headers()
        if how == "killed":
            await redis_server.kill()
        else:
            redis_server.pause()
        async with asyncio.timeout(5):
            for _ in range(20):
                answer = await doorway.http.get("/api/v1/accounts/nobody", headers=headers)
                assert answer.status_code == 404  # auth's own word
        if how == "hanging":
            redis_server.go_on()
