"""`chusuan serve`: a service as a process of its own, told all by environment and files."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.e2e.waiting import until
from tests.service.gateway.serving import free_port, served

STARTS_WITHIN_S = 30
PATIENCE_S = 5.0


class Upstream:
    """Plays auth: says which client it was told of, and can be slow about it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.app = Starlette(
            routes=[Route("/api/v1/accounts", self._answer), Route("/readyz", self._ready)]
        )

    async def _answer(self, request: Request) -> JSONResponse:
        self.asked.set()
        await self.may_answer.wait()
        return JSONResponse({"client": request.headers["x-forwarded-for"]})

    async def _ready(self, request: Request) -> JSONResponse:
        return JSONResponse({})


@contextlib.asynccontextmanager
async def gateway(
    tmp_path: Path, upstream: Upstream, **settings: str
) -> AsyncIterator[tuple[httpx.AsyncClient, subprocess.Popen[bytes]]]:
    behind, port = free_port(), free_port()
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "chusuan_gateway_service_secret").write_text("from-a-file\n")
    environment = {
        "PATH": os.environ["PATH"],
        "CHUSUAN_SECRETS_DIR": str(secrets),
        "CHUSUAN_GATEWAY_UPSTREAMS": f'{{"auth": "http://127.0.0.1:{behind}"}}',
        **settings,
    }
    words = ["serve", "gateway", "--host", "127.0.0.1", "--port", str(port)]
    async with served((upstream.app, {"host": "127.0.0.1", "port": behind})):
        process = subprocess.Popen(  # noqa: ASYNC220  it takes as long as a fork
            [sys.executable, "-m", "cli.main", *words], env=environment
        )
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30
            ) as http:

                async def answers() -> bool:
                    assert process.poll() is None, "it ended"
                    with contextlib.suppress(httpx.TransportError):
                        return (await http.get("/healthz")).is_success
                    return False

                await until(answers, timeout_s=STARTS_WITHIN_S, what="the gateway answers")
                yield http, process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("trusted", "told"),
    [("127.0.0.1", "203.0.113.9"), ("", "127.0.0.1"), ("203.0.113.0/24", "127.0.0.1")],
)
async def test_a_client_is_who_a_trusted_proxy_says_and_else_who_connects(
    tmp_path: Path, trusted: str, told: str
) -> None:
    upstream = Upstream()
    async with gateway(tmp_path, upstream, CHUSUAN_GATEWAY_TRUSTED_PROXIES=trusted) as (http, _):
        headers = {"x-forwarded-for": "198.51.100.7, 203.0.113.9"}
        answer = await http.get("/api/v1/accounts", headers=headers)
    assert answer.json() == {"client": told}


async def test_a_request_in_flight_is_answered_after_the_word_to_stop(tmp_path: Path) -> None:
    upstream = Upstream()
    upstream.may_answer.clear()
    async with gateway(tmp_path, upstream) as (http, process):
        asking = asyncio.create_task(http.get("/api/v1/accounts"))
        await upstream.asked.wait()
        process.send_signal(signal.SIGTERM)
        refused = asyncio.create_task(_until_closed(str(http.base_url)))
        await refused
        upstream.may_answer.set()
        assert (await asking).json() == {"client": "127.0.0.1"}
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(process.wait)


async def _until_closed(url: str) -> None:
    """Nobody new comes in any more."""

    async def is_closed() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                await http.get(f"{url}/healthz")
            except httpx.ConnectError:
                return True
            return False

    await until(is_closed, timeout_s=PATIENCE_S, what="the gateway takes no more connections")


def test_a_proxy_that_is_no_network_is_refused_at_the_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "serve", "gateway"],
        env={
            "PATH": os.environ["PATH"],
            "CHUSUAN_GATEWAY_UPSTREAMS": "{}",
            "CHUSUAN_GATEWAY_SERVICE_SECRET": "x",
            "CHUSUAN_GATEWAY_TRUSTED_PROXIES": "the-edge",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "trusted_proxies" in done.stderr
