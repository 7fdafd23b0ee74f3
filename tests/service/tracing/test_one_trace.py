"""One rent is one trace: through the gateway, the services, the agent and back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr
from starlette.types import ASGIApp

from agent.main import Agent
from agent.settings import AgentSettings
from gateway.main import create_app as create_gateway
from gateway.settings import GatewaySettings
from services.market.main import create_app as create_market
from services.market.settings import MarketSettings
from services.scheduler.clients.registry import FakeRegistry, Image
from services.scheduler.main import create_app as create_scheduler
from services.scheduler.settings import SchedulerSettings
from shared import telemetry
from shared.bus import open_bus
from shared.events import Envelope
from shared.events.auth import AccountApproved
from shared.ids import new_id
from shared.tokens import Role
from tests.identity import TestIdentity
from tests.service.gateway.serving import served
from tests.service.tracing.engine import MemoryEngine

NODES = """
[[node]]
name = "sim"
region = "here"
simulated = true
gpu_model = "GeForce RTX 4090"
gpu_count = 1
gpu_memory_mib = 24564
driver_version = "570.124"
max_cuda = "12.8"
tflops = 82.6
cpu_cores = 8
memory_gib = 8
disk_gib = 8
"""
QUICK = {"timeout_graceful_shutdown": 1}
STRANGERS = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@dataclass
class Person:
    http: httpx.AsyncClient
    wish: dict[str, Any]

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, f"/api/v1{path}", **more)

    async def rent(self) -> str:
        answer = await self.ask(
            "POST", "/instances", json=self.wish, headers={"traceparent": STRANGERS}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    stop = telemetry.export_to(SimpleSpanProcessor(exporter))
    yield exporter
    stop()


@pytest.fixture
async def person(
    new_database: Callable[[], Awaitable[str]], tmp_path: Path
) -> AsyncIterator[Person]:
    """A user with money, at the gateway of a whole small platform."""
    bus_url, identity = f"memory://{new_id()}", TestIdentity()
    sockets = {name: tmp_path / f"{name}.sock" for name in ("market", "scheduler", "gateway")}
    urls = {name: f"unix:{path}" for name, path in sockets.items()}
    shared: dict[str, Any] = {
        "bus_url": bus_url, "redis_url": bus_url, "auth_url": "http://127.0.0.1:1",
        "service_secret": SecretStr("x" * 32),
    }  # fmt: skip
    registry, image = FakeRegistry(), new_id()
    registry.images[image] = Image(id=image, name="m", address="chusuan/m:1", status="ready")
    market = create_market(
        MarketSettings(database_url=await new_database(), **shared), key_source=identity
    )
    settings = SchedulerSettings(
        database_url=await new_database(), market_url=urls["market"], **shared
    )
    scheduler = create_scheduler(settings, key_source=identity, registry=registry)
    gateway = create_gateway(
        GatewaySettings(
            upstreams={"auth": "http://127.0.0.1:1", **urls},
            redis_url=bus_url, service_secret=SecretStr("x" * 32),
        ),
        key_source=identity,
    )  # fmt: skip
    apps: dict[str, ASGIApp] = {"market": market, "scheduler": scheduler, "gateway": gateway}
    agent = asyncio.create_task(_agent(tmp_path, bus_url).run())
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            served(*((app, {"uds": str(sockets[name]), **QUICK}) for name, app in apps.items()))
        )
        transport = httpx.AsyncHTTPTransport(uds=str(sockets["gateway"]))
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=30)
        )
        account = new_id()
        await _give_money(http, bus_url, identity, account)
        http.headers.update(identity.headers(account))

        person = Person(http, {"image_id": str(image), "gpu_count": 1, "billing": "payg"})
        async with asyncio.timeout(20):
            while not (offers := (await person.ask("GET", "/offers")).json()["items"]):
                await asyncio.sleep(0.05)
        person.wish["offer_id"] = offers[0]["id"]
        yield person
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
    await open_bus(bus_url).close()


def _agent(folder: Path, bus_url: str) -> Agent:
    (folder / "nodes.toml").write_text(NODES)
    engine = MemoryEngine()
    first = 26000 + int(new_id().hex[-3:], 16) % 1000 * 4
    settings = AgentSettings(
        bus_url=bus_url, state_dir=folder / "agent", run_dir=folder / "run",
        netdisk_root=folder / "net", nodes_file=folder / "nodes.toml",
        heartbeat_s=0.2, firewall=False, publish_address="127.0.0.1", bridge="chusuan-none",
        port_first=first, port_last=first + 3,
    )  # fmt: skip
    return Agent(settings, engine=engine, images=engine)


async def _give_money(
    http: httpx.AsyncClient, bus_url: str, identity: TestIdentity, account: UUID
) -> None:
    approved = AccountApproved(account_id=account, username="lihua")
    await open_bus(bus_url).publish(Envelope.wrap(approved, subject=account))
    answer = await http.post(
        f"/api/v1/wallets/{account}/credits", json={"amount": "100", "note": ""},
        headers=identity.headers(role=Role.operator),
    )  # fmt: skip
    assert answer.status_code == 201, answer.text


def parts_of(spans: InMemorySpanExporter, trace_id: int) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        if span.context is not None and span.context.trace_id == trace_id:
            found.setdefault(str(span.resource.attributes["service.name"]), []).append(span)
    return found


async def test_one_rent_is_one_trace_through_all_parts(
    spans: InMemorySpanExporter, person: Person
) -> None:
    spans.clear()
    path = f"/instances/{await person.rent()}"
    async with asyncio.timeout(20):
        while (await person.ask("GET", path)).json()["status"] != "running":
            await asyncio.sleep(0.05)

    def told() -> bool:
        ended = {span.name for span in spans.get_finished_spans()}
        return ended >= {
            "tell scheduler.instance.started", "market.runs takes scheduler.instance.started",
        }  # fmt: skip

    async with asyncio.timeout(20):
        while not told():
            await asyncio.sleep(0.05)
    root = next(s for s in spans.get_finished_spans() if s.name == "POST /api/v1/instances/…")
    assert root.parent is None, "what a stranger sends is no parent"
    assert root.context is not None
    found = parts_of(spans, root.context.trace_id)
    assert set(found) >= {
        "chusuan-gateway", "chusuan-scheduler", "chusuan-market", "chusuan-agent",
    }  # fmt: skip
    names = {span.name for part in found.values() for span in part}
    assert names >= {
        "POST /api/v1/instances",
        "POST /internal/authorisations",
        "Create", "Start", "AwaitReady",
        "hear of instance",
        "tell scheduler.instance.started",
        "market.runs takes scheduler.instance.started",
    }  # fmt: skip


async def test_without_an_exporter_nothing_is_marked(person: Person) -> None:
    await person.rent()
    assert not telemetry.is_on()
    assert telemetry.traceparent() is None
    with telemetry.span("gateway", "x") as span:
        assert not span.get_span_context().is_valid


def test_log_lines_carry_the_trace(spans: InMemorySpanExporter) -> None:
    processors = [telemetry.add_trace_id]
    with structlog.testing.capture_logs(processors=processors) as lines:
        log = structlog.get_logger()
        log.info("before")
        with telemetry.span("gateway", "x") as span:
            log.info("within")
    assert "trace_id" not in lines[0]
    assert lines[1]["trace_id"] == f"{span.get_span_context().trace_id:032x}"
