"""Scheduler, market and a real agent in one process, each room on its own real PostgreSQL, over a
bus and an engine that a test may trouble."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from pydantic import SecretStr
from sqlalchemy import make_url

from agent.main import Agent
from agent.settings import AgentSettings
from services.market.main import create_app as create_market
from services.market.settings import MarketSettings
from services.scheduler.clients.market import HttpMarket
from services.scheduler.clients.registry import FakeRegistry, Image
from services.scheduler.main import create_app as create_scheduler
from services.scheduler.settings import SchedulerSettings
from shared.ids import new_id
from shared.tokens import Role
from tests.e2e.people import Json
from tests.fault.fake_engine import FakeEngine
from tests.fault.topology import Row
from tests.fault.troubled_bus import TroubledBus, plant_bus
from tests.identity import TestIdentity
from tests.ports import instance_ports

NODES = """
[[node]]
name = "one"
region = "test-1"
simulated = true
gpu_model = "A100 SXM4"
gpu_count = 3
gpu_memory_mib = 40960
driver_version = "550"
max_cuda = "12.4"
tflops = 19.5
cpu_cores = 64
memory_gib = 512
disk_gib = 100
"""
QUICK: Mapping[str, Any] = {"resend_s": 0.5, "sweep_s": 0.5, "usage_proof_s": 0.5}


@dataclass
class Rooms:
    """Is a topology too: what `invariants` asks of."""

    urls: Mapping[str, str]
    http: httpx.AsyncClient
    market: httpx.AsyncClient
    identity: TestIdentity
    engine: FakeEngine
    bus: TroubledBus
    image: Image
    agent_settings: AgentSettings
    services: tuple[str, ...] = ("market", "scheduler")
    parts: tuple[str, ...] = ("agent",)
    url: str = "http://rooms"
    operator_password: str = ""
    operator: UUID = field(default_factory=new_id)
    agent: "asyncio.Task[None] | None" = None

    @property
    def agents(self) -> list[Path]:
        return [self.agent_settings.state_dir]

    @property
    def storage(self) -> Path:
        return self.agent_settings.netdisk_root

    async def start(self) -> None:
        if self.agent is None or self.agent.done():
            self.agent = asyncio.create_task(Agent(self.agent_settings, engine=self.engine).run())

    async def kill(self, part: str = "agent") -> None:
        """Cancelled wherever it is: its containers and its journal stay."""
        if self.agent is not None:
            self.agent.cancel()
            await asyncio.gather(self.agent, return_exceptions=True)

    async def died(self) -> None:
        await asyncio.Event().wait()

    async def ask(self, service: str, question: str, *values: object) -> list[Row]:
        url = make_url(self.urls[service])
        connection = await asyncpg.connect(
            host=str(url.query["host"]), user="postgres", database=url.database
        )
        try:
            return [dict(row) for row in await connection.fetch(question, *values)]
        finally:
            await connection.close()

    async def containers(self) -> list[Json]:
        return [container.shown() for container in self.engine.all.values()]

    async def post(
        self, account: UUID, path: str, body: Json | None = None, *, key: str = ""
    ) -> httpx.Response:
        headers = self.identity.headers(account)
        if key:
            headers["idempotency-key"] = key
        return await self.http.post(f"/api/v1{path}", json=body or {}, headers=headers)

    async def credit(self, account: UUID, amount: Decimal, *, key: str = "") -> httpx.Response:
        headers = self.identity.headers(self.operator, role=Role.operator)
        return await self.market.post(
            f"/api/v1/wallets/{account}/credits",
            json={"amount": str(amount), "note": key or "test"},
            headers={**headers, **({"idempotency-key": key} if key else {})},
        )

    async def account(self, money: str) -> UUID:
        """With a wallet, and money in it."""
        account = new_id()
        answer = await self.market.get("/api/v1/wallet", headers=self.identity.headers(account))
        assert answer.status_code == 200, answer.text
        assert (await self.credit(account, Decimal(money))).status_code == 201
        return account

    async def offer(self) -> str:
        rows = await self.ask("scheduler", "SELECT id FROM nodes")
        return str(rows[0]["id"])

    async def wish(self, **more: object) -> Json:
        return {
            "offer_id": await self.offer(),
            "gpu_count": 1,
            "image_id": str(self.image.id),
            "billing": "payg",
            **more,
        }


@asynccontextmanager
async def open_rooms(
    new_database: Callable[[], Awaitable[str]], folder: Path, chance: random.Random
) -> AsyncIterator[Rooms]:
    bus = TroubledBus(chance)
    bus.trouble = 0.0
    bus_url = plant_bus(new_id().hex, bus)
    urls = {"market": await new_database(), "scheduler": await new_database()}
    shared: dict[str, Any] = {
        "bus_url": bus_url, "redis_url": bus_url, "auth_url": "http://127.0.0.1:1",
        "service_secret": SecretStr("x" * 32),
    }  # fmt: skip
    identity, registry = TestIdentity(), FakeRegistry()
    image = Image(
        id=new_id(), name="minimal", address="chusuan/minimal:1", cuda="12.1", status="ready",
        apps=[],
    )  # fmt: skip
    registry.images[image.id] = image
    market = create_market(
        MarketSettings(database_url=urls["market"], settle_s=1, watch_s=60, **shared),
        key_source=identity,
    )
    bus.hold()
    async with market.router.lifespan_context(market), _client(market, "market") as market_http:
        scheduler = create_scheduler(
            SchedulerSettings(database_url=urls["scheduler"], **QUICK, **shared),
            key_source=identity,
            market=HttpMarket(market_http),
            registry=registry,
        )
        async with (
            scheduler.router.lifespan_context(scheduler),
            _client(scheduler, "scheduler") as http,
        ):
            engine = FakeEngine(chance)
            rooms = Rooms(
                urls, http, market_http, identity, engine, bus, image,
                _agent_settings(folder, bus_url),
            )  # fmt: skip
            bus.flow()
            await rooms.start()
            try:
                yield rooms
            finally:
                await bus.calm()
                await rooms.kill()
                engine.clear()


def _client(app: Any, name: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{name}", timeout=60)


def _agent_settings(folder: Path, bus_url: str) -> AgentSettings:
    (folder / "nodes.toml").write_text(NODES)
    first, last = instance_ports()
    return AgentSettings(
        bus_url=bus_url,
        docker_host="unix:///nowhere.sock",
        state_dir=folder / "state",
        run_dir=folder / "run",
        netdisk_root=folder / "netdisk",
        nodes_file=folder / "nodes.toml",
        port_first=first,
        port_last=last,
        publish_address="127.0.0.1",
        heartbeat_s=0.3,
        firewall=False,
        bridge="none0",
    )
