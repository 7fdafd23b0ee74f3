"""Carries requests to services and apps and answers back, byte for byte, without holding either.

Pure ASGI over aiohttp's client: the same code serves TCP and Unix sockets. It knows nothing of
what stands behind; who may call, services check for themselves and `apps.py` for the apps.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
from starlette.types import Receive, Scope, Send
from yarl import URL

from gateway.headers import Headers, RawHeaders, from_service

# What is held of one answer whose reader is slow, about twice; more is not faster.
READ_AHEAD_BYTES = 256 << 10
OWN_QUESTION_S = 5
CONNECT_S = 3


class UpstreamAway(Exception):
    """It did not take the request: nothing has been answered yet."""


class BodyTooLarge(Exception):
    """The request body is over the limit: nothing has been answered yet."""


class ClientGone(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Upstream:
    """base: scheme and host."""

    session: aiohttp.ClientSession
    base: str

    def url(self, scope: Scope) -> URL:
        """With path and query as sent."""
        raw = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        return URL(f"{self.base}{raw}?{query}" if query else f"{self.base}{raw}", encoded=True)


class Proxy:
    """A connection pool for each service, and one for all apps. Open with `async with`."""

    def __init__(
        self, upstreams: Mapping[str, str], idle_timeout_s: float, app_idle_timeout_s: float
    ) -> None:
        self._urls = upstreams
        self._idle_timeout_s = idle_timeout_s
        self._app_idle_timeout_s = app_idle_timeout_s
        self._services: dict[str, Upstream] = {}
        self._apps: aiohttp.ClientSession
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Proxy":
        for name, url in self._urls.items():
            is_socket = url.startswith("unix:")
            connector = (
                aiohttp.UnixConnector(url.removeprefix("unix:"), limit=0)
                if is_socket
                else aiohttp.TCPConnector(limit=0)
            )
            session = await self._open(connector, self._idle_timeout_s)
            self._services[name] = Upstream(session, "http://service" if is_socket else url)
        connector = aiohttp.TCPConnector(limit=0, socket_factory=_probing_socket)
        self._apps = await self._open(connector, self._app_idle_timeout_s, _refuse_to_be_sent_on)
        return self

    async def _open(
        self,
        connector: aiohttp.BaseConnector,
        idle_timeout_s: float,
        *middlewares: aiohttp.ClientMiddlewareType,
    ) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=idle_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_AHEAD_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            middlewares=middlewares,
        )
        return await self._stack.enter_async_context(session)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def service(self, name: str) -> Upstream:
        return self._services[name]

    def app(self, host: str, port: int) -> Upstream:
        return Upstream(self._apps, f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def get_json(self, service: str, path: str) -> tuple[int, object]:
        """A question of the gateway's own. Raises UpstreamAway."""
        upstream = self._services[service]
        try:
            timeout = aiohttp.ClientTimeout(total=OWN_QUESTION_S)
            async with upstream.session.get(f"{upstream.base}{path}", timeout=timeout) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UpstreamAway(service) from error


async def forward(
    upstream: Upstream,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    headers: Headers,
    most_body_bytes: int | None,
    present: Callable[[RawHeaders], RawHeaders] = from_service,
) -> None:
    """present: makes the answer's headers from the upstream's. Raises UpstreamAway, BodyTooLarge,
    ClientGone before the answer has begun; what breaks later breaks the client's connection too."""
    declared = next((int(v) for k, v in headers if k == "content-length" and v.isdigit()), 0)
    if most_body_bytes is not None and declared > most_body_bytes:
        raise BodyTooLarge
    client = _Client(receive, most_body_bytes)
    body = client.body() if _has_body(scope) else None
    began = False
    try:
        async with upstream.session.request(
            scope["method"], upstream.url(scope), headers=headers, data=body, allow_redirects=False
        ) as response:
            if not 200 <= response.status < 600:
                raise UpstreamAway(f"status {response.status}")
            began = True
            await _answer(response, present, client, send)
    except (aiohttp.ClientError, TimeoutError) as error:
        if isinstance(error.__cause__, BodyTooLarge):
            raise BodyTooLarge from error
        if client.is_gone:
            raise ClientGone from error
        if began:
            raise
        raise UpstreamAway(upstream.base) from error


class _Client:
    """Who sent the request: the body, then whether they still wait."""

    def __init__(self, receive: Receive, most_body_bytes: int | None) -> None:
        self._receive = receive
        self._most = most_body_bytes
        self.has_sent_all = True
        self.is_gone = False

    async def body(self) -> AsyncIterator[bytes]:
        self.has_sent_all = False
        taken = 0
        while not self.has_sent_all:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                raise ClientGone
            chunk = message.get("body", b"")
            taken += len(chunk)
            if self._most is not None and taken > self._most:
                raise BodyTooLarge
            self.has_sent_all = not message.get("more_body", False)
            if chunk:
                yield chunk

    async def gone(self) -> None:
        while not self.is_gone:
            self.is_gone = (await self._receive())["type"] == "http.disconnect"


def _has_body(scope: Scope) -> bool:
    return any(key in (b"content-length", b"transfer-encoding") for key, _ in scope["headers"])


async def _answer(
    response: aiohttp.ClientResponse,
    present: Callable[[RawHeaders], RawHeaders],
    client: _Client,
    send: Send,
) -> None:
    headers = present(list(response.raw_headers))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    content = response.content
    # Small answers are here already; whoever leaves during a long one ends it at its source.
    is_long = client.has_sent_all and not content.is_eof()
    watcher = asyncio.create_task(_end_with(client, response)) if is_long else None
    try:
        async for chunk in content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        if watcher is not None:
            watcher.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _end_with(client: _Client, response: aiohttp.ClientResponse) -> None:
    await client.gone()
    response.close()


def _probing_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """The kernel finds out about a dead host; a ping would wait behind what a slow reader left."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


async def _refuse_to_be_sent_on(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp follows redirects of a WebSocket's handshake: an app could name any host by one."""
    response = await handler(request)
    if 300 <= response.status < 400 and "Sec-WebSocket-Key" in request.headers:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info, response.history, status=response.status, message="redirect"
        )
    return response
