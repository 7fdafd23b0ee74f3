"""What stands behind the gateway, played by the test: auth, the scheduler, an app of a tenant."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse as Answer
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from shared.ids import new_id
from shared.tokens import Role, Verifier
from tests.identity import TestIdentity

APP_TOKEN = "app-token-7f3a91c05e"


@dataclass
class Instance:
    account_id: UUID
    port: int
    instance_id: UUID = field(default_factory=new_id)
    running: bool = True
    apps: list[dict[str, str]] = field(
        default_factory=lambda: [{"name": "jupyterlab", "path": "lab"}]
    )


def play_auth(identity: TestIdentity, ended: dict[UUID, bool]) -> FastAPI:
    """ended: sessions that are over, and whether that is still told."""
    app = FastAPI()

    @app.get("/internal/ended-sessions")
    async def ended_sessions(since: float) -> dict[str, Any]:
        sessions = [
            {"id": str(id_), "ended_at": time.time()} for id_, told in ended.items() if told
        ]
        return {"whole_until": time.time(), "sessions": sessions}

    @app.get("/internal/sessions/{session_id}/live")
    async def live(session_id: UUID) -> dict[str, bool]:
        return {"live": session_id not in ended}

    @app.post("/internal/service-tokens", status_code=201)
    async def service_token(body: dict[str, str]) -> JSONResponse:
        if body != {"service": "gateway", "secret": "x" * 32}:
            return JSONResponse({"code": "unauthenticated"}, 401)
        token = identity.token(username="gateway", role=Role.service)
        return JSONResponse({"access_token": token, "expires_in": 900}, 201)

    @app.get("/problems.json")
    async def problems() -> list[dict[str, Any]]:
        words = {"zh": "只有 auth 知道 {what}", "en": "Known to auth alone: {what}"}
        kind = {"code": "only_auth", "status": 409, "title": words, "detail": words}
        return [kind]

    return app


def play_scheduler(identity: TestIdentity, instances: dict[UUID, Instance]) -> FastAPI:
    """`GET /internal/instances/{id}/app` as the scheduler answers it; the contract is held by
    tests/service/scheduler/test_scheduler_app_door.py."""
    app = FastAPI()
    verifier = Verifier(identity)

    @app.get("/internal/instances/{instance_id}/app")
    async def show(instance_id: UUID, authorization: Annotated[str, Header()]) -> JSONResponse:
        caller = await verifier.verify(authorization.removeprefix("Bearer "))
        found = instances.get(instance_id)
        if found is None or (caller.role is not Role.service and found.account_id != caller.id):
            return JSONResponse({"code": "not_found", "title": "Not found", "detail": "-"}, 404)
        return JSONResponse(
            {
                "instance_id": str(instance_id),
                "account_id": str(found.account_id),
                "host": "127.0.0.1",
                "port": found.port,
                "token": APP_TOKEN,
                "running": found.running,
                "apps": found.apps,
            }
        )

    @app.get("/internal/health")
    async def health(authorization: Annotated[str, Header()]) -> JSONResponse:
        caller = await verifier.verify(authorization.removeprefix("Bearer "))
        if caller.role is not Role.service:
            return JSONResponse({"code": "forbidden", "title": "-", "detail": "-"}, 403)
        known = {"service": "scheduler", "database": None, "bus_alive": True, "redis_alive": True}
        return JSONResponse({**known, "workers": []})

    @app.get("/problems.json")
    async def problems() -> list[dict[str, Any]]:
        return []

    return app


@dataclass
class TenantApp:
    """What a container might serve. seen: the headers of each request, by path."""

    seen: dict[str, dict[str, str]] = field(default_factory=dict)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    closed_with: asyncio.Queue[tuple[int, str]] = field(default_factory=asyncio.Queue)

    def app(self) -> Starlette:
        root = "/apps/{instance_id}"
        return Starlette(
            routes=[
                Route(f"{root}/upload", self._upload, methods=["PUT"]),
                Route(f"{root}/stream", self._stream),
                Route(f"{root}/greedy", self._greedy),
                Route(f"{root}/elsewhere", self._elsewhere),
                WebSocketRoute(f"{root}/socket", self._socket),
                WebSocketRoute(f"{root}/closes", self._closes),
                WebSocketRoute(f"{root}/floods", self._floods),
                WebSocketRoute(f"{root}/sends-on", self._sends_on),
                Route(f"{root}/{{path:path}}", self._echo, methods=["GET", "POST", "DELETE"]),
            ]
        )

    def _note(self, connection: Request | WebSocket) -> None:
        name = connection.url.path.rpartition("/")[2]
        self.seen[name] = dict(connection.headers)

    async def _echo(self, request: Request) -> Response:
        self._note(request)
        raw = request.scope["raw_path"].decode()
        body = (await request.body()).decode()
        said = {"method": request.method, "raw": raw, "query": request.url.query, "body": body}
        return Answer(said, int(request.query_params.get("status", "200")))

    async def _upload(self, request: Request) -> Response:
        await self.may_read.wait()
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
        return Answer({"received": received})

    async def _stream(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await self.may_go_on.wait()
                yield b"second"
                await asyncio.Event().wait()
            finally:
                self.ended.set()

        return StreamingResponse(chunks())

    async def _greedy(self, request: Request) -> Response:
        answer = Response("greedy")
        for cookie in (
            "own=1; Path=/; Domain=example.org; HttpOnly",
            "chusuan_app=stolen; Path=/",
            "__Host-refresh=stolen; Path=/; Secure",
            "=chusuan_app=stolen",
        ):
            answer.headers.append("set-cookie", cookie)
        answer.headers["service-worker-allowed"] = "/"
        answer.headers["clear-site-data"] = '"*"'
        answer.headers["strict-transport-security"] = "max-age=1"
        answer.headers["content-security-policy"] = "default-src 'self'"
        return answer

    async def _elsewhere(self, request: Request) -> Response:
        self._note(request)
        return RedirectResponse("other", 302)

    async def _socket(self, socket: WebSocket) -> None:
        self._note(socket)
        offered = socket.scope["subprotocols"]
        await socket.accept(subprotocol=offered[-1] if offered else None)
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                await self.closed_with.put((message["code"], message.get("reason") or ""))
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])

    async def _closes(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("last words")
        await socket.close(4321, "kernel died")

    async def _sends_on(self, socket: WebSocket) -> None:
        self._note(socket)
        await socket.send_denial_response(RedirectResponse("socket", 302))

    async def _floods(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_bytes(bytes((64 << 20) + 1))
        await socket.receive()
