"""The gateway in front of a real server on a Unix socket."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.main import create_app
from gateway.settings import GatewaySettings
from shared.ids import new_id
from tests.identity import TestIdentity
from tests.service.gateway.serving import served

MIB = 1 << 20


async def echo(request: Request) -> Response:
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "query": request.url.query,
            "headers": dict(request.headers),
            "body": (await request.body()).decode(),
        },
        status_code=int(request.query_params.get("status", "200")),
    )


async def count(request: Request) -> Response:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
    return JSONResponse({"received": received})


async def large(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * MIB

    return StreamingResponse(chunks(), headers={"content-length": str(32 * MIB)})


@pytest.fixture
def identity() -> TestIdentity:
    return TestIdentity()


@pytest.fixture
async def client(tmp_path: Path, identity: TestIdentity) -> AsyncIterator[httpx.AsyncClient]:
    upstream = Starlette(
        routes=[
            Route("/api/v1/files/content", count, methods=["PUT"]),
            Route("/api/v1/files/large", large),
            Route("/{path:path}", echo, methods=["GET", "POST", "DELETE"]),
        ]
    )
    sockets = {"auth": tmp_path / "auth.sock", "storage": tmp_path / "storage.sock"}
    gateway = create_app(
        GatewaySettings(
            upstreams={
                **{name: f"unix:{path}" for name, path in sockets.items()},
                "market": f"unix:{tmp_path}/nobody.sock",
            },
            service_secret=SecretStr("x" * 32),
            redis_url=f"memory://{new_id()}",
            requests_per_minute=30,
        ),
        key_source=identity,
    )
    door = tmp_path / "door.sock"
    async with contextlib.AsyncExitStack() as stack:
        services = [(upstream, {"uds": str(path)}) for path in sockets.values()]
        await stack.enter_async_context(served(*services, (gateway, {"uds": str(door)})))
        transport = httpx.AsyncHTTPTransport(uds=str(door))
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://door")
        )


async def test_a_call_arrives_as_it_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/accounts/é?q=%20a&status=418", json={"a": 1})
    seen = answer.json()
    assert answer.status_code == 418
    assert (seen["method"], seen["path"], seen["query"]) == (
        "POST", "/api/v1/accounts/é", "q=%20a&status=418",
    )  # fmt: skip
    assert seen["body"] == '{"a":1}'


async def test_a_client_cannot_speak_for_the_gateway(client: httpx.AsyncClient) -> None:
    forged = {"x-forwarded-for": "1.2.3.4", "x-request-id": "forged", "connection": "x-secret"}
    seen = (await client.get("/api/v1/accounts", headers={**forged, "x-secret": "1"})).json()
    assert seen["headers"]["x-forwarded-for"] != "1.2.3.4"
    assert seen["headers"]["x-request-id"] != "forged"
    assert "x-secret" not in seen["headers"]


async def test_a_file_streams_up_whatever_its_size(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b"x" * MIB

    answer = await client.put("/api/v1/files/content", content=chunks())
    assert answer.json() == {"received": 16 * MIB}


async def test_a_large_answer_streams_down_whole(client: httpx.AsyncClient) -> None:
    assert len((await client.get("/api/v1/files/large")).content) == 32 * MIB


@pytest.mark.parametrize("chunked", [False, True])
async def test_any_other_large_body_is_refused(client: httpx.AsyncClient, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * MIB

    content = chunks() if chunked else b"x" * 3 * MIB
    answer = await client.post("/api/v1/accounts", content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


async def test_a_service_that_is_away_is_said_to_be_away(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/offers", headers={"accept-language": "en"})
    assert (answer.status_code, answer.json()["title"]) == (503, "Temporarily unavailable")
    assert (await client.get("/readyz")).json() == {"status": "waiting", "for": ["market"]}


async def test_a_bad_token_is_refused_at_the_door(
    client: httpx.AsyncClient, identity: TestIdentity
) -> None:
    good = await client.get("/api/v1/accounts", headers=identity.headers())
    bad = await client.get("/api/v1/accounts", headers=TestIdentity().headers())
    assert (good.status_code, bad.status_code) == (200, 401)


async def test_one_caller_too_many_times_waits_and_another_does_not(
    client: httpx.AsyncClient, identity: TestIdentity
) -> None:
    eager, calm = identity.headers(), identity.headers()
    # Two windows' worth, so that the turn of a minute cannot hide the limit.
    answers = [await client.get("/api/v1/accounts", headers=eager) for _ in range(61)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused
    assert refused[0].json()["wait_s"] <= 60
    assert (await client.get("/api/v1/accounts", headers=calm)).status_code == 200


async def test_what_nobody_serves_is_not_found_in_the_callers_language(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/api/v1/../../internal/x", headers={"accept-language": "zh"})
    assert answer.status_code == 404
