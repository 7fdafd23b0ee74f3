"""Carries requests to services and answers back, byte for byte, without holding either.

Pure ASGI over aiohttp's client: the same code serves TCP and Unix sockets. It knows nothing of
what the services do; who may call, they check for themselves.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack

import aiohttp
import structlog
from starlette.types import Receive, Scope, Send
from yarl import URL

log = structlog.get_logger(__name__)

CHUNK_BYTES = 1 << 20
OWN_QUESTION_S = 5
Headers = list[tuple[str, str]]

# RFC 9110 §7.6.1, and what only the gateway may say.
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
_OURS = frozenset(
    {"host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"}
)


class UpstreamAway(Exception):
    """The service did not take the request: nothing has been answered yet."""


class BodyTooLarge(Exception):
    """The request body is over the limit: nothing has been answered yet."""


class ClientGone(Exception):
    pass


class Proxy:
    """One connection pool per upstream. Open with `async with`."""

    def __init__(self, upstreams: Mapping[str, str], idle_timeout_s: float) -> None:
        self._urls = upstreams
        self._timeout = aiohttp.ClientTimeout(total=None, connect=3, sock_read=idle_timeout_s)
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Proxy":
        for name, url in self._urls.items():
            connector = (
                aiohttp.UnixConnector(url.removeprefix("unix:"), limit=0)
                if url.startswith("unix:")
                else aiohttp.TCPConnector(limit=0)
            )
            session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=CHUNK_BYTES,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
            self._sessions[name] = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def url(self, service: str, path: str) -> URL:
        base = self._urls[service]
        return URL(f"{'http://service' if base.startswith('unix:') else base}{path}", encoded=True)

    async def get_json(self, service: str, path: str) -> tuple[int, object]:
        """A question of the gateway's own. Raises UpstreamAway."""
        try:
            timeout = aiohttp.ClientTimeout(total=OWN_QUESTION_S)
            url = self.url(service, path)
            async with self._sessions[service].get(url, timeout=timeout) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UpstreamAway(service) from error

    async def forward(
        self,
        service: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request_id: str,
        most_body_bytes: int | None,
    ) -> int:
        """The answer's status. Raises UpstreamAway, BodyTooLarge, ClientGone before the answer
        has begun; what breaks later breaks the client's connection too."""
        headers = _request_headers(scope, request_id)
        declared = next((int(v) for k, v in headers if k == "content-length" and v.isdigit()), 0)
        if most_body_bytes is not None and declared > most_body_bytes:
            raise BodyTooLarge
        raw = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        url = self.url(service, f"{raw}?{query}" if query else raw)
        body = _body(receive, most_body_bytes) if _has_body(scope) else None
        began = False
        try:
            async with self._sessions[service].request(
                scope["method"], url, headers=headers, data=body, allow_redirects=False
            ) as response:
                began = True
                await _answer(response, send)
                return response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error.__cause__, BodyTooLarge):
                raise BodyTooLarge from error
            if began:
                raise
            raise UpstreamAway(service) from error


def _request_headers(scope: Scope, request_id: str) -> Headers:
    raw: Iterable[tuple[bytes, bytes]] = scope["headers"]
    named = {
        word.strip().lower()
        for key, value in raw
        if key == b"connection"
        for word in value.decode("latin-1").split(",")
    }
    dropped = _HOP_BY_HOP | _OURS | named
    headers = [
        (key.decode("latin-1"), value.decode("latin-1"))
        for key, value in raw
        if key.decode("latin-1") not in dropped
    ]
    client = scope.get("client")
    headers.append(("x-forwarded-for", client[0] if client else ""))
    headers.append(("x-request-id", request_id))
    return headers


def _has_body(scope: Scope) -> bool:
    return any(key in (b"content-length", b"transfer-encoding") for key, _ in scope["headers"])


async def _body(receive: Receive, most: int | None) -> AsyncIterator[bytes]:
    taken = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        taken += len(chunk)
        if most is not None and taken > most:
            raise BodyTooLarge
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


async def _answer(response: aiohttp.ClientResponse, send: Send) -> None:
    headers = [
        (key.lower(), value)
        for key, value in response.raw_headers
        if key.decode("latin-1").lower() not in _HOP_BY_HOP
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for chunk in response.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
