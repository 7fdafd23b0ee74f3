"""Pure ASGI around a whole app: counts its requests and WebSockets, and how long they take."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.metrics import HTTP_IN_FLIGHT, WEBSOCKETS_OPEN, count_request

UNKNOWN_ROUTE = "unknown"


def route_template(scope: Scope) -> str:
    """Of the route that FastAPI found, `/api/v1/instances/{instance_id}`."""
    return str(getattr(scope.get("route"), "path", UNKNOWN_ROUTE))


class Watched:
    """route_of: called when the answer has left; its values must be few."""

    def __init__(
        self, app: ASGIApp, service: str, route_of: Callable[[Scope], str] = route_template
    ) -> None:
        self._app = app
        self._service = service
        self._route_of = route_of
        self._in_flight = HTTP_IN_FLIGHT.labels(service)
        self._sockets = WEBSOCKETS_OPEN.labels(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            with self._sockets.track_inprogress():
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
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
