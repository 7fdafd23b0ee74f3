"""WebSockets through the gateway, to a real server."""

import asyncio

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.service.gateway.conftest import Doorway
from tests.service.gateway.playing import APP_TOKEN, Instance
from tests.service.gateway.serving import free_port

MIB = 1 << 20


async def test_text_and_bytes_pass_both_ways_whatever_their_size(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    async with doorway.socket(instance, "socket", cookie) as socket:
        for message in ("1 + 1 = 二", b"\x00\xff", "", "x" * (20 * MIB), b"y" * (20 * MIB)):
            await socket.send(message)
            assert await socket.recv() == message


async def test_the_app_sees_its_token_the_subprotocols_and_no_session(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    offered = [websockets.Subprotocol("v0"), websockets.Subprotocol("v1.kernel.jupyter.org")]
    async with doorway.socket(
        instance, "socket", f"_xsrf=1; {cookie}", subprotocols=offered
    ) as socket:
        assert socket.subprotocol == "v1.kernel.jupyter.org"
    seen = doorway.app.seen["socket"]
    assert seen["authorization"] == f"token {APP_TOKEN}"
    assert seen["cookie"] == "_xsrf=1"
    assert seen["host"] == f"127.0.0.1:{doorway.port}"


async def test_each_sides_closing_code_and_reason_reach_the_other(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    async with doorway.socket(instance, "closes", cookie) as socket:
        assert await socket.recv() == "last words"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4321, "kernel died")
    async with doorway.socket(instance, "socket", cookie) as socket:
        await socket.close(4000, "bye")
    async with asyncio.timeout(5):
        assert await doorway.app.closed_with.get() == (4000, "bye")


async def test_a_client_that_vanishes_is_gone_for_the_app_too(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    async with doorway.socket(instance, "socket", await doorway.opened(instance)) as socket:
        await socket.send("here")
        await socket.recv()
        socket.transport.abort()
    async with asyncio.timeout(5):
        await doorway.app.closed_with.get()


async def test_a_message_beyond_the_bound_ends_the_socket_with_its_reason(
    doorway: Doorway,
) -> None:
    instance = doorway.new_instance()
    async with doorway.socket(instance, "floods", await doorway.opened(instance)) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1009


async def refused(doorway: Doorway, instance: Instance, cookie: str, **more: object) -> None:
    path = str(more.pop("path", "socket"))
    with pytest.raises(InvalidStatus) as caught:
        async with doorway.socket(instance, path, cookie, **more):
            pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
async def test_another_sites_socket_is_refused(doorway: Doorway, origin: str | None) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    await refused(doorway, instance, cookie, origin=origin)
    assert doorway.app.seen == {}


async def test_a_socket_without_a_session_or_with_anothers_is_refused(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    others = await doorway.opened(doorway.new_instance())
    await refused(doorway, instance, "a=1")
    await refused(doorway, instance, others)
    assert doorway.app.seen == {}


async def test_an_app_cannot_send_the_handshake_on_to_another_address(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    await refused(doorway, instance, await doorway.opened(instance), path="sends-on")
    assert list(doorway.app.seen) == ["sends-on"]


async def test_a_socket_that_the_app_does_not_take_is_refused(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    await refused(doorway, instance, cookie, path="missing")
    away = doorway.new_instance()
    away.port = free_port()
    await refused(doorway, away, await doorway.opened(away))


async def test_an_open_socket_ends_with_the_instance(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    async with doorway.socket(instance, "socket", await doorway.opened(instance)) as socket:
        await socket.send("here")
        assert await socket.recv() == "here"
        instance.running = False
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 1008
