"""A service starts and serves while the broker is away, and says what it waits for."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

import services.storage
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.events import Envelope
from shared.settings import ServiceSettings
from shared.worker import Worker
from tests.broker import Broker
from tests.contract.test_bus_on_broker import until

MIGRATIONS = Path(services.storage.__file__).parent / "migrations"


async def ignore(event: Envelope) -> None:
    pass


async def setup(app: FastAPI, runtime: Runtime) -> tuple[list[Subscription], list[Worker]]:
    return [Subscription("test.q", ("test.#",), ignore)], []


@pytest.fixture
async def client(
    broker: Broker, broker_url: str, database_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    await broker.stop()
    settings = ServiceSettings(
        database_url=database_url, bus_url=broker_url, service_secret=SecretStr("of the test")
    )
    app = create_service_app("test", settings, migrations=MIGRATIONS, routers=[], setup=setup)
    try:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield client
    finally:
        if not broker.is_running:
            await broker.start()


async def test_it_serves_and_says_that_it_waits_for_the_bus_and_then_is_ready(
    broker: Broker, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/healthz")).status_code == 200
    waiting = await client.get("/readyz")
    assert waiting.status_code == 503
    assert waiting.json() == {"status": "waiting", "for": "bus"}
    assert (await client.get("/problems.json")).status_code == 200
    await broker.start()

    async def is_ready() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await until(is_ready)
