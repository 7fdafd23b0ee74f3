"""The real scheduler on a real database; a test plays the agent over the memory bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from services.scheduler.clients.market import FakeMarket
from services.scheduler.clients.registry import FakeRegistry, Image, ImageApp
from services.scheduler.main import create_app
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tools import Tools
from shared.bus import Bus, Subscription, open_bus
from shared.clock import utc_now
from shared.events import Envelope, Payload
from shared.events.agent import (
    DesiredInstance,
    EndReason,
    Gpu,
    Inventory,
    NodeDesired,
    NodeReported,
    ObservedInstance,
    ObservedSave,
    ObservedState,
)
from shared.ids import new_id
from tests.identity import TestIdentity

Json = dict[str, Any]
FACTS = "scheduler.*.*"


@dataclass
class Agent:
    """A host as the scheduler sees it: says what the test tells it to, remembers its orders."""

    bus: Bus
    node_id: UUID = field(default_factory=new_id)
    gpus: int = 4
    boot_id: str = "boot-1"
    sequence: int = 0
    ports: int = 100
    max_cuda: str = "12.4"
    unhealthy: frozenset[int] = frozenset()
    orders: dict[UUID, DesiredInstance] = field(default_factory=dict)
    states: dict[UUID, ObservedInstance] = field(default_factory=dict)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, envelope: Envelope) -> None:
        desired = NodeDesired.model_validate(envelope.data)
        if desired.node_id == self.node_id:
            async with self._arrived:
                self.orders = {order.instance_id: order for order in desired.instances}
                self._arrived.notify_all()

    async def ordered(self, instance_id: UUID | str, **wanted: object) -> DesiredInstance:
        """The order, once it has these values."""
        key = UUID(str(instance_id))

        def there() -> bool:
            order = self.orders.get(key)
            return order is not None and all(getattr(order, n) == v for n, v in wanted.items())

        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(there)
        return self.orders[key]

    async def no_order_for(self, instance_id: UUID | str) -> None:
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: UUID(str(instance_id)) not in self.orders)

    async def sees(
        self, instance_id: UUID | str, state: ObservedState, **more: Any
    ) -> ObservedInstance:
        """Report this of one instance, answering to its present order, beside all the others."""
        key = UUID(str(instance_id))
        order = self.orders[key]
        observed = ObservedInstance(
            **{
                "instance_id": key,
                "generation": order.generation,
                "start_token": order.start_token,
                "state": state,
                **more,
            }
        )
        self.states[key] = observed
        await self.report()
        return observed

    async def runs(self, instance_id: UUID | str, started_at: datetime | None = None) -> datetime:
        moment = started_at or utc_now() - timedelta(seconds=60)
        await self.ordered(instance_id, want="running")
        await self.sees(instance_id, ObservedState.running, started_at=moment)
        return moment

    async def stops(self, instance_id: UUID | str, **more: Any) -> None:
        """As ordered, or by itself with an end_reason."""
        if "end_reason" not in more:
            await self.ordered(instance_id, want="stopped")
        values = {"finished_at": utc_now(), "end_reason": EndReason.ordered, **more}
        await self.sees(instance_id, ObservedState.stopped, **values)

    async def saved(self, instance_id: UUID | str, state: ObservedState, **save: Any) -> None:
        values = {"state": "saved", "digest": "sha256:1", "size_bytes": 7, **save}
        before = self.states[UUID(str(instance_id))]
        await self.sees(
            instance_id,
            state,
            started_at=before.started_at,
            finished_at=before.finished_at,
            save=ObservedSave(**values),
        )

    def inventory(self) -> Inventory:
        return Inventory(
            gpus=[
                Gpu(
                    uuid=f"GPU-{i}",
                    index=i,
                    model="GeForce RTX 4090",
                    memory_mib=24564,
                    healthy=i not in self.unhealthy,
                    simulated=True,
                )
                for i in range(self.gpus)
            ],
            cpu_model="EPYC",
            cpu_cores=16.0 * self.gpus,
            memory_bytes=(64 << 30) * self.gpus,
            disk_bytes=1 << 40,
            disk_free_bytes=1 << 39,
            driver_version="550.90",
            max_cuda=self.max_cuda,
            address="203.0.113.5",
            app_address="10.0.0.5",
            port_first=22000,
            port_last=22000 + self.ports - 1,
        )

    async def report(self, **changes: Any) -> None:
        self.sequence += 1
        values: Json = {
            "node_id": self.node_id,
            "name": f"host-{self.node_id.hex[-4:]}",
            "region": "wuhan-1",
            "simulated": True,
            "boot_id": self.boot_id,
            "sequence": self.sequence,
            "reported_at": utc_now(),
            "inventory": self.inventory(),
            "instances": list(self.states.values()),
            **changes,
        }
        report = NodeReported(**values)
        await self.bus.publish(Envelope.wrap(report, subject=self.node_id))


@dataclass
class Facts:
    """What the scheduler told, in the order of its telling."""

    heard: list[Envelope] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, envelope: Envelope) -> None:
        async with self._arrived:
            self.heard.append(envelope)
            self._arrived.notify_all()

    def of(self, kind: type[Payload], **wanted: object) -> list[Json]:
        return [
            e.data
            for e in self.heard
            if e.type == kind.type and all(e.data.get(n) == v for n, v in wanted.items())
        ]

    async def told(self, kind: type[Payload], count: int = 1, **wanted: object) -> list[Json]:
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.of(kind, **wanted)) >= count)
        return self.of(kind, **wanted)


@dataclass
class House:
    app: FastAPI
    http: httpx.AsyncClient
    bus: Bus
    identity: TestIdentity
    market: FakeMarket
    registry: FakeRegistry
    facts: Facts
    image: Image
    account_id: UUID = field(default_factory=new_id)
    agents: list[Agent] = field(default_factory=list)

    @property
    def tools(self) -> Tools:
        tools: Tools = self.app.state.tools
        return tools

    def headers(self, account_id: UUID | None = None, **more: Any) -> dict[str, str]:
        return self.identity.headers(account_id or self.account_id, **more)

    async def add_agent(self, **values: Any) -> Agent:
        agent = Agent(self.bus, **values)
        queue = f"agent.{agent.node_id}.desired"
        await self.bus.subscribe(Subscription(queue, (NodeDesired.type,), agent.take))
        self.agents.append(agent)
        await agent.report()
        return agent

    def wish(self, agent: Agent, **changes: Any) -> Json:
        return {
            "offer_id": str(agent.node_id),
            "gpu_count": 1,
            "image_id": str(self.image.id),
            "billing": "payg",
            **changes,
        }

    async def post(self, path: str, body: Json | None = None, **headers: str) -> httpx.Response:
        return await self.http.post(
            f"/api/v1{path}", json=body or {}, headers={**self.headers(), **headers}
        )

    async def rent(self, agent: Agent, **changes: Any) -> Json:
        answer = await self.post("/instances", self.wish(agent, **changes))
        assert answer.status_code == 201, answer.text
        rented: Json = answer.json()
        return rented

    async def running(self, agent: Agent, **changes: Any) -> Json:
        rented = await self.rent(agent, **changes)
        await agent.runs(rented["id"])
        return await self.show(rented["id"])

    async def stopped(self, agent: Agent, **changes: Any) -> Json:
        instance = await self.running(agent, **changes)
        await self.move(instance, "stop")
        await agent.stops(instance["id"])
        return await self.show(instance["id"])

    async def move(self, instance: Json, move: str, **body: Any) -> Json:
        answer = await self.post(f"/instances/{instance['id']}/{move}", body)
        assert answer.status_code == 200, answer.text
        moved: Json = answer.json()
        return moved

    async def show(self, instance_id: str) -> Json:
        answer = await self.http.get(f"/api/v1/instances/{instance_id}", headers=self.headers())
        assert answer.status_code == 200, answer.text
        shown: Json = answer.json()
        return shown

    async def until(self, instance_id: str, status: str) -> Json:
        """For what a worker does by itself."""
        async with asyncio.timeout(10):
            while (shown := await self.show(instance_id))["status"] != status:
                await asyncio.sleep(0.01)
        return shown

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.tools.database.transaction() as session:
            return list((await session.execute(text(statement), values)).all())

    async def promised(self) -> int:
        """Milli of all devices; counters and rows must agree."""
        total = (await self.rows("SELECT coalesce(sum(promised_milli), 0) FROM gpus"))[0][0]
        kept = (await self.rows("SELECT coalesce(sum(milli), 0) FROM promises"))[0][0]
        assert total == kept
        return int(total)


Opener = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(database_url: str) -> Opener:
    unique = new_id().hex

    @asynccontextmanager
    async def start(*, admission: Any = None, **changes: Any) -> AsyncIterator[House]:
        settings = SchedulerSettings(
            **{
                "database_url": database_url,
                "bus_url": f"memory://{unique}",
                "redis_url": f"memory://{unique}",
                "auth_url": "http://127.0.0.1:1",
                "service_secret": SecretStr("x" * 32),
                **changes,
            }
        )
        identity, market, registry = TestIdentity(), FakeMarket(), FakeRegistry()
        image = Image(
            id=new_id(), name="minimal", address="chusuan/minimal:1", cuda="12.1",
            status="ready", apps=[ImageApp(name="jupyterlab", path="lab")],
        )  # fmt: skip
        registry.images[image.id] = image
        app = create_app(
            settings, key_source=identity, market=market, registry=registry, admission=admission
        )
        bus = open_bus(f"memory://{unique}")
        facts = Facts()
        await bus.subscribe(Subscription("test.facts", (FACTS,), facts.take))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://scheduler") as http:
                yield House(app, http, bus, identity, market, registry, facts, image)
        await bus.close()

    return start


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    async with open_house() as started:
        yield started


@pytest.fixture
async def agent(house: House) -> Agent:
    return await house.add_agent()
