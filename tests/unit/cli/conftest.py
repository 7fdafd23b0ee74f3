"""A tiny gateway on a real port that keeps what it was asked, and the CLI in front of it."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import Result
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from typer.testing import CliRunner

from cli.main import app as cli

INSTANCE_ID = "01930000-0000-7000-8000-00000000aaaa"
OFFER_ID = "01930000-0000-7000-8000-00000000bbbb"
NODE_ID = "01930000-0000-7000-8000-00000000dddd"
IMAGE_ID = "01930000-0000-7000-8000-00000000cccc"


@dataclass
class FakeGateway:
    url: str = ""
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    tokens: int = 0
    lives_s: int = 900
    revoked: set[str] = field(default_factory=set)
    refresh_works: bool = True
    lose_answers: int = 0
    states: list[str] = field(default_factory=lambda: ["starting", "running"])
    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/"})

    def calls(self, method: str, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [(h, b) for m, p, h, b in self.asked if (m, p) == (method, f"/api/v1{path}")]

    def session(self) -> dict[str, Any]:
        self.tokens += 1
        return {
            "access_token": f"access-{self.tokens}",
            "token_type": "bearer",
            "expires_in": self.lives_s,
            "refresh_token": f"refresh-{self.tokens}",
            "account": {"id": INSTANCE_ID, "username": "lin", "status": "active"},
        }

    def instance(self) -> dict[str, Any]:
        status = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        door = {"host": "127.0.0.1", "port": 22001, "username": "root", "command": "ssh …"}
        return {
            "id": INSTANCE_ID, "name": "nodule", "short_name": "000000aaaa", "status": status,
            "mode": "gpu", "gpu_count": 1, "gpu_model": "A100", "node_name": "sim", "ssh": door,
            "image": {"name": "minimal"}, "price_per_hour": "1.0000", "env": {"A": "1"},
            "apps": [{"name": "jupyter", "ready": True}], "status_reason": "no reason",
        }  # fmt: skip


def page(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "total": len(items), "page": 1, "size": 200}


def problem(status: int, code: str, **more: Any) -> JSONResponse:
    body = {"title": f"title of {code}", "detail": f"cure of {code}", "code": code, **more}
    return JSONResponse(body, status, media_type="application/problem+json")


def build(fake: FakeGateway) -> FastAPI:
    app = FastAPI()

    @app.api_route("/api/v1/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
    async def answer(path: str, request: Request) -> Response:
        body = await request.body()
        headers = dict(request.headers)
        fake.asked.append((request.method, f"/api/v1/{path}", headers, body))
        if path not in ("sessions", "sessions/refresh", "accounts"):
            token = headers.get("authorization", "").removeprefix("Bearer ")
            if not token or token in fake.revoked:
                return problem(401, "unauthenticated")
        if path == "instances" and request.method == "POST" and fake.lose_answers:
            fake.lose_answers -= 1
            return StreamingResponse(iter([b"{"]), 201, {"content-length": "10"})  # cut off
        return respond(fake, request, path, json.loads(body) if _is_json(headers, body) else body)

    return app


def _is_json(headers: dict[str, str], body: bytes) -> bool:
    return bool(body) and headers.get("content-type", "").startswith("application/json")


def respond(fake: FakeGateway, request: Request, path: str, body: Any) -> Response:
    where = request.query_params.get("path", "")
    match request.method, path.split("/"):
        case "POST", ["sessions"]:
            if body["password"] != "right":
                return problem(401, "wrong_password", field="password")
            return JSONResponse(fake.session(), 201)
        case "POST", ["sessions", "refresh"]:
            works = fake.refresh_works and body["refresh_token"] == f"refresh-{fake.tokens}"
            return JSONResponse(fake.session()) if works else problem(401, "session_ended")
        case "DELETE", ["sessions", "current"]:
            return Response(status_code=204)
        case "GET", ["accounts", "me"]:
            return JSONResponse({"id": INSTANCE_ID, "username": "lin", "status": "active"})
        case "GET", ["offers"]:
            return JSONResponse(page({"id": OFFER_ID, "name": "sim-a100", "status": "rentable"}))
        case "GET", ["images"]:
            mine = request.query_params["tab"] == "mine"
            image = {"id": IMAGE_ID, "name": "minimal", "status": "ready", "kind": "system"}
            return JSONResponse(page(*([] if mine else [image])))
        case "POST", ["instances"]:
            return JSONResponse(fake.instance(), 201)
        case "GET", ["instances"]:
            return JSONResponse(page(fake.instance()))
        case ("GET", ["instances", _]) | ("POST", ["instances", _, "stop" | "start" | "release"]):
            return JSONResponse(fake.instance())
        case _, ["nodes", *rest]:
            return respond_nodes(request.method, rest)
        case _, ["files", *_]:
            return respond_files(fake, request.method, path, where, body)
    return problem(404, "not_found")


NODE = {
    "id": NODE_ID, "name": "gpu-7", "region": "wuhan-1", "state": "draining", "draining": True,
    "simulated": False, "labels": {"rack": "3"}, "credential": "admitted", "boot_id": "b1",
    "cpu_model": "EPYC", "cpu_cores": 64.0, "memory_bytes": 1 << 36, "disk_free_bytes": 1 << 40,
    "driver_version": "550", "max_cuda": "12.4", "address": "203.0.113.5",
    "heard_at": "2026-11-24T10:00:00Z",
    "gpus": [{"model": "A100", "promised_milli": 1000}, {"model": "A100", "promised_milli": 0}],
}  # fmt: skip


def respond_nodes(method: str, rest: list[str]) -> Response:
    match method, rest:
        case "GET", []:
            breaker = {"open": True, "opened_at": "2026-11-24T10:00:00Z"}
            return JSONResponse({**page(NODE), "breaker": breaker})
        case "POST", ["invitations"]:
            made = {
                "id": NODE_ID, "token": "csj1.abc", "command": "chusuan agent --join csj1.abc",
                "expires_at": "2026-11-25T10:00:00Z",
            }  # fmt: skip
            return JSONResponse(made, 201)
        case "POST", ["breaker", "close"]:
            return JSONResponse({"open": False, "opened_at": None})
        case "DELETE", [_]:
            return Response(status_code=204)
        case ("GET", [_]) | ("POST", [_, "drain" | "resume" | "revoke"]):
            return JSONResponse(NODE)
    return problem(404, "not_found")


def respond_files(fake: FakeGateway, method: str, path: str, where: str, body: Any) -> Response:
    match method, path:
        case "PUT", "files/content":
            fake.files[where] = body
            return JSONResponse({"path": where}, 201)
        case "GET", "files/content":
            return Response(fake.files[where])
        case "POST", "files/directories":
            fake.folders.add(body["path"])
            return JSONResponse({"path": body["path"]}, 201)
        case "GET", "files":
            if where not in fake.folders:
                return problem(404, "not_found")
            return JSONResponse(page(*_entries(fake, where)))
    return problem(405, "not_allowed")


def _entries(fake: FakeGateway, where: str) -> Iterator[dict[str, Any]]:
    for path in sorted(fake.folders - {"/"}):
        if str(Path(path).parent) == where:
            yield {"name": Path(path).name, "kind": "directory", "size_bytes": 0}
    for path, content in fake.files.items():
        if str(Path(path).parent) == where:
            yield {"name": Path(path).name, "kind": "file", "size_bytes": len(content)}


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    gateway = FakeGateway()
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(build(gateway), port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(10)
    gateway.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield gateway
    server.should_exit = True
    thread.join(10)


Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("CHUSUAN_URL", raising=False)
    return tmp_path / "config" / "chusuan"


@pytest.fixture
def run(fake: FakeGateway, config: Path) -> Run:
    def invoke(*words: str, stdin: str | None = None) -> Any:
        return CliRunner().invoke(cli, ["--url", fake.url, *words], input=stdin)

    return invoke


@pytest.fixture
def logged_in(run: Run) -> Run:
    assert run("login", "lin", "--password-stdin", stdin="right\n").exit_code == 0
    return run
