"""Pure ASGI around a whole app: counts its requests and WebSockets, times and traces them."""

import time
from collections.abc import Callable

from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import telemetry
from shared.metrics import HTTP_IN_FLIGHT, WEBSOCKETS_OPEN, count_request

UNKNOWN_ROUTE = "unknown"
SERVER = SpanKind.SERVER


def route_template(scope: Scope) -> str:
    """Of the route that FastAPI found, `/api/v1/instances/{instance_id}`."""
    return str(getattr(scope.get("route"), "path", UNKNOWN_ROUTE))


class Watched:
    """route_of: called when the answer has left; its values must be few.
    begins_at: paths that begin a trace; None: goes on with the caller's."""

    def __init__(
        self,
        app: ASGIApp,
        service: str,
        route_of: Callable[[Scope], str] = route_template,
        begins_at: str | None = None,
    ) -> None:
        self._app = app
        self._service = service
        self._route_of = route_of
        self._begins_at = begins_at
        self._in_flight = HTTP_IN_FLIGHT.labels(service)
        self._sockets = WEBSOCKETS_OPEN.labels(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._traced(scope, receive, send)
        elif scope["type"] == "websocket":
            with self._sockets.track_inprogress():
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not telemetry.is_on() or not self._is_traced(scope):
            await self._request(scope, receive, send)
            return
        mark = None if self._begins_at is not None else _mark_of(scope)
        with telemetry.span(self._service, scope["method"], parent=mark, kind=SERVER) as span:
            status = await self._request(scope, receive, send)
            span.update_name(f"{scope['method']} {self._route_of(scope)}")
            span.set_attribute("http.response.status_code", status)

    def _is_traced(self, scope: Scope) -> bool:
        if self._begins_at is not None:
            return bool(scope["path"].startswith(self._begins_at))
        return _mark_of(scope) is not None

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> int:
        """The status; 0 when none was sent."""
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._in_flight.inc()
        began = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        finally:
            self._in_flight.dec()
            spent = time.perf_counter() - began
            count_request(self._service, scope["method"], self._route_of(scope), status, spent)
        return status


def _mark_of(scope: Scope) -> str | None:
    wanted = telemetry.HEADER.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)
