"""The browser's door to what instances serve: `/apps/{instance_id}/…`, HTTP and WebSocket.

A session, opened by a one-time ticket, belongs to one account and one instance. Where the instance
is, and whose, the scheduler is asked all the time; the app's own token is added here and never
reaches the browser.
"""

import asyncio
import re
import time
from dataclasses import dataclass
from functools import partial
from typing import NoReturn
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from gateway import headers
from gateway.directory import AppDoor, Directory
from gateway.errors import (
    AppNotAnswering,
    AppNotOpened,
    ForeignPage,
    InstanceNotRunning,
    NoSuchAddress,
    TooManyRequests,
)
from gateway.limits import RateLimit
from gateway.logins import Logins
from gateway.metrics import RATE_LIMITED
from gateway.origins import Ask, Origins
from gateway.pages import Said, page
from gateway.proxy import ClientGone, Proxy, UpstreamAway, forward
from gateway.routes import AppPath, app_path
from gateway.settings import SOCKET_MESSAGE_BYTES
from gateway.sockets import POLICY, bridge
from gateway.tickets import SECRET_CHARACTERS, Opener, Tickets
from shared.errors import DomainError, Unavailable
from shared.ids import new_id
from shared.text import preferred_language

log = structlog.get_logger(__name__)

REFRESH_S = 2
LOOK_S = 0.5
_SECRET = re.compile(rf"[A-Za-z0-9_-]{{{SECRET_CHARACTERS}}}")
_MOST_COOKIES = 4


@dataclass(frozen=True, slots=True)
class _Admitted:
    door: AppDoor
    opener: Opener


class AppDoors:
    """Pure ASGI."""

    def __init__(
        self,
        proxy: Proxy,
        directory: Directory,
        tickets: Tickets,
        limit: RateLimit,
        origins: Origins,
        logins: Logins,
    ) -> None:
        self._logins = logins
        self._proxy = proxy
        self._directory = directory
        self._tickets = tickets
        self._limit = limit
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(new_id())
        ask = ask_of(scope)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._serve(scope, receive, send, ask, request_id)
            except ClientGone:
                return None
            except DomainError as refusal:
                await refuse(scope, refusal, receive, send)
        return None

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, ask: Ask, request_id: str
    ) -> None:
        where = app_path(scope["raw_path"].decode("latin-1"))
        # TRACE would answer with the token that was added.
        if where is None or ask.method in ("TRACE", "CONNECT"):
            raise NoSuchAddress
        if not self._origins.serves(ask, where.instance_id):
            raise NoSuchAddress
        if self._origins.is_foreign(ask):
            raise ForeignPage
        if scope["type"] == "http" and ask.method == "GET" and (ticket := _ticket(scope)):
            return await (await self._enter(scope, ask, where, ticket))(scope, receive, send)
        admitted = await self._admit(scope, where)
        door = admitted.door
        onward = headers.to_app(scope, request_id, door.token)
        upstream = self._proxy.app(door.host, door.port)
        try:
            if scope["type"] == "websocket":
                await bridge(
                    upstream, scope, receive, send,
                    headers=onward,
                    most_message_bytes=SOCKET_MESSAGE_BYTES,
                    welcome_ends=partial(self._until_unwelcome, scope, where, admitted.opener),
                )  # fmt: skip
            else:
                await forward(
                    upstream, scope, receive, send,
                    headers=onward,
                    most_body_bytes=None,
                    present=partial(headers.from_app, root=where.root, request_id=request_id),
                )  # fmt: skip
        except UpstreamAway as away:
            log.info("app_away", instance_id=str(where.instance_id), error=repr(away.__cause__))
            raise AppNotAnswering from away

    async def _enter(self, scope: Scope, ask: Ask, where: AppPath, ticket: str) -> Response:
        """To the same path without the ticket, with a session in a cookie of this instance."""
        if self._origins.is_lured(ask):
            raise ForeignPage
        session = await self._tickets.redeem(ticket, where.instance_id)
        if session is None:
            await self._admit(scope, where)
        query = [(n, v) for n, v in _query(scope) if n != "ticket"]
        target = f"{where.raw}?{urlencode(query)}" if query else where.raw
        answer = RedirectResponse(
            target, 303, headers={"referrer-policy": "no-referrer", "cache-control": "no-store"}
        )
        if session is not None:
            answer.set_cookie(
                headers.COOKIE,
                session,
                path=where.root,
                httponly=True,
                samesite="lax",
                secure=self._origins.is_secure(ask),
            )
        return answer

    async def _admit(self, scope: Scope, where: AppPath) -> _Admitted:
        """Raises AppNotOpened, InstanceNotRunning, TooManyRequests, NotFound, Unavailable."""
        sessions = [v for n, v in headers.cookies_of(scope) if n == headers.COOKIE]
        for session in sessions[:_MOST_COOKIES]:
            opener = await self._tickets.opener_of(session, where.instance_id)
            if opener is None or not await self._logins.goes_on(opener.session_id):
                continue
            door = await self._directory.find(where.instance_id)
            if door.account_id != opener.account_id:
                break
            if not door.running:
                raise InstanceNotRunning
            return _Admitted(door, opener)
        await self._refuse_stranger(scope)

    async def _refuse_stranger(self, scope: Scope) -> NoReturn:
        client = scope.get("client")
        wait_s = await self._limit.wait_s(client[0] if client else "unknown")
        if wait_s:
            RATE_LIMITED.inc()
            raise TooManyRequests(wait_s=wait_s)
        raise AppNotOpened

    async def _until_unwelcome(self, scope: Scope, where: AppPath, opener: Opener) -> None:
        """While a socket is open: its session stays alive, and ends with the right to it."""
        while True:
            if await self._login_ends_within(self._directory.fresh_s, opener):
                return
            try:
                await self._admit(scope, where)
            except Unavailable:
                continue
            except DomainError:
                return

    async def _login_ends_within(self, seconds: float, opener: Opener) -> bool:
        """Asks nobody, so it can look often."""
        give_up = time.monotonic() + seconds
        while (left := give_up - time.monotonic()) > 0:
            await asyncio.sleep(min(left, LOOK_S))
            if self._logins.has_ended(opener.session_id):
                return True
        return False


def ask_of(scope: Scope) -> Ask:
    method = scope.get("method", "GET")
    return Ask.of(scope["type"], method, scope["scheme"], dict(scope["headers"]))


def _query(scope: Scope) -> list[tuple[str, str]]:
    query = scope["query_string"].decode("latin-1")
    return parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="replace")


def _ticket(scope: Scope) -> str | None:
    """Only what looks like ours: apps have tickets of their own."""
    return next((v for n, v in _query(scope) if n == "ticket" and _SECRET.fullmatch(v)), None)


async def refuse(scope: Scope, refusal: DomainError, receive: Receive, send: Send) -> None:
    """A page; a socket is answered 403, since a browser shows nobody more."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY})
    else:
        await _refusal_page(scope, refusal)(scope, receive, send)


def _refusal_page(scope: Scope, refusal: DomainError) -> Response:
    said = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
    language = preferred_language(said)
    is_passing = isinstance(refusal, AppNotAnswering | Unavailable)
    shown = Said(
        title=refusal.render_title(language),
        sentences=(refusal.render_detail(language),),
        refresh_s=REFRESH_S if is_passing else 0,
    )
    return page(shown, language, refusal.status)
