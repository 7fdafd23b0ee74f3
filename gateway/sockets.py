"""Carries a WebSocket: messages both ways one at a time, so that a slow reader slows the writer.

Pings are answered on each side by its own server and client.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import WSMsgType
from starlette.types import Receive, Scope, Send

from gateway.headers import Headers
from gateway.proxy import ClientGone, Upstream, UpstreamAway

CLOSE_S = 5
REASON_BYTES = 123

NORMAL, GOING_AWAY, POLICY, BROKEN = 1000, 1001, 1008, 1011
_NOTHING_SAID = 1005


@dataclass(frozen=True, slots=True)
class _End:
    """by_client: which side spoke it."""

    code: int
    reason: str
    by_client: bool


async def bridge(
    upstream: Upstream,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    headers: Headers,
    most_message_bytes: int,
    welcome_ends: Callable[[], Awaitable[None]],
) -> None:
    """Until either side closes, or welcome_ends returns. Raises UpstreamAway, also when
    the app refuses the handshake, and ClientGone, while the client is not yet answered."""
    if (await receive())["type"] != "websocket.connect":
        raise ClientGone
    try:
        socket = await upstream.session.ws_connect(
            upstream.url(scope),
            protocols=scope["subprotocols"],
            headers=headers,
            max_msg_size=most_message_bytes,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UpstreamAway(upstream.base) from error
    async with socket:
        try:
            await send({"type": "websocket.accept", "subprotocol": socket.protocol, "headers": []})
            end = await _first(
                _from_app(socket, send), _from_client(receive, socket), _until(welcome_ends)
            )
        except OSError:  # how uvicorn says that the client has left
            end = _End(GOING_AWAY, "", by_client=True)
        code, reason = (
            _sendable(end.code),
            end.reason.encode()[:REASON_BYTES].decode(errors="ignore"),
        )
        await socket.close(code=code, message=reason.encode())
        if not end.by_client:
            await send({"type": "websocket.close", "code": code, "reason": reason})


async def _first(*ways: Awaitable[_End]) -> _End:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(task for task in tasks if task in done).result()


async def _from_client(receive: Receive, socket: aiohttp.ClientWebSocketResponse) -> _End:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", _NOTHING_SAID)
            return _End(code, message.get("reason") or "", by_client=True)
        try:
            if message.get("text") is not None:
                await socket.send_str(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
        except (aiohttp.ClientError, ConnectionError):
            # It is closing; the reader learns with which code.
            await asyncio.sleep(CLOSE_S)
            return _End(BROKEN, "", by_client=False)


async def _from_app(socket: aiohttp.ClientWebSocketResponse, send: Send) -> _End:
    while True:
        message = await socket.receive()
        match message.type:
            case WSMsgType.TEXT:
                await send({"type": "websocket.send", "text": message.data})
            case WSMsgType.BINARY:
                await send({"type": "websocket.send", "bytes": message.data})
            case WSMsgType.CLOSE:
                return _End(message.data, message.extra or "", by_client=False)
            case _:
                return _End(socket.close_code or BROKEN, "", by_client=False)


async def _until(welcome_ends: Callable[[], Awaitable[None]]) -> _End:
    await welcome_ends()
    return _End(POLICY, "", by_client=False)


def _sendable(code: int) -> int:
    """The same code where a close frame may carry it (RFC 6455 §7.4)."""
    if code == _NOTHING_SAID:
        return NORMAL
    allowed = (1000 <= code <= 1014 and code not in (1004, 1006)) or 3000 <= code <= 4999
    return code if allowed else BROKEN
