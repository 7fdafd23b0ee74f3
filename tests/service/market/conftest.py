"""The real market on a real database; a test plays scheduler and auth over the memory bus."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from services.market.clients.scheduler import FakeScheduler
from services.market.main import create_app
from services.market.metering import settle_hour
from services.market.settings import MarketSettings
from services.market.tools import Tools
from services.market.verifying import verify_ledger
from services.market.watching import watch_balance
from shared.bus import Bus, Subscription, open_bus
from shared.events import Envelope, Payload
from shared.events.auth import AccountApproved
from shared.events.scheduler import (
    InstanceResumed,
    InstanceStarted,
    InstanceStopped,
    NodeChanged,
    StartAbandoned,
    UsageProven,
)
from shared.ids import new_id
from shared.tokens import Role
from tests.identity import TestIdentity

Json = dict[str, Any]
# Decimal, which tests may compare with whole numbers.
Amount = Decimal | int
# A clock hour long ago: what the tests meter lies in the past, so no worker waits for it.
T0 = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
GRACE = timedelta(seconds=120)


def at(**elapsed: float) -> datetime:
    return T0 + timedelta(**elapsed)


@dataclass
class Run:
    """One authorised start and what the scheduler tells of it."""

    id: UUID
    account_id: UUID
    instance_id: UUID
    price: Decimal

    def started(self, moment: datetime) -> InstanceStarted:
        return InstanceStarted(
            instance_id=self.instance_id, account_id=self.account_id, authorisation_id=self.id,
            mode="gpu", started_at=moment,
        )  # fmt: skip

    def stopped(self, moment: datetime) -> InstanceStopped:
        return InstanceStopped(
            instance_id=self.instance_id, account_id=self.account_id, authorisation_id=self.id,
            stopped_at=moment, reason="user",
        )  # fmt: skip

    def resumed(self, moment: datetime) -> tuple["Run", InstanceResumed]:
        """The run that goes on, and how that is told."""
        on = replace(self, id=new_id())
        return on, InstanceResumed(
            instance_id=self.instance_id, account_id=self.account_id,
            old_authorisation_id=self.id, authorisation_id=on.id, mode="gpu", started_at=moment,
        )  # fmt: skip

    def abandoned(self) -> StartAbandoned:
        return StartAbandoned(
            instance_id=self.instance_id, account_id=self.account_id, authorisation_id=self.id,
            reason="refused",
        )  # fmt: skip

    def proven(self, moment: datetime) -> UsageProven:
        return UsageProven(node_id=new_id(), until=moment, authorisations=[self.id])


@dataclass
class House:
    app: FastAPI
    http: httpx.AsyncClient
    bus: Bus
    identity: TestIdentity
    heard: list[Envelope]
    scheduler: FakeScheduler
    operator_id: UUID = field(default_factory=new_id)
    host_id: UUID = field(default_factory=new_id)

    @property
    def tools(self) -> Tools:
        tools: Tools = self.app.state.tools
        return tools

    def of(self, account_id: UUID, **more: Any) -> dict[str, str]:
        return self.identity.headers(account_id, **more)

    @property
    def operator(self) -> dict[str, str]:
        return self.of(self.operator_id, role=Role.operator)

    async def tell(self, payload: Payload, *, sequence: int = 0) -> Envelope:
        """Returns when the market has taken it."""
        envelope = Envelope.wrap(payload, subject=new_id(), sequence=sequence)
        await self.bus.publish(envelope)
        return envelope

    async def host(self, host_id: UUID | None = None, sequence: int = 1, **changes: Any) -> UUID:
        """The scheduler tells of a host: eight RTX 4090 unless changed."""
        node_id = host_id or new_id()
        values: Json = {
            "node_id": node_id, "name": "sim-4090", "region": "wuhan-1", "state": "online",
            "simulated": True, "gpu_model": "GeForce RTX 4090", "gpu_memory_mib": 24564,
            "gpu_total": 8, "gpu_free": 8, "cpu_model": "EPYC", "cpu_cores": 128.0,
            "memory_bytes": 512 << 30, "disk_bytes": 4000 << 30, "driver_version": "570.124",
            "max_cuda": "12.8", "tflops": 82.6, **changes,
        }  # fmt: skip
        await self.tell(NodeChanged.model_validate(values), sequence=sequence)
        return node_id

    async def account(self, balance: str = "0") -> UUID:
        """An approved account with so much money."""
        account_id = new_id()
        await self.tell(AccountApproved(account_id=account_id, username="lihua"))
        if Decimal(balance) > 0:
            assert (await self.credit(account_id, balance)).status_code == 201
        return account_id

    async def credit(self, account_id: UUID, amount: str, **headers: str) -> httpx.Response:
        return await self.http.post(
            f"/api/v1/wallets/{account_id}/credits",
            json={"amount": amount, "note": "test"},
            headers={**self.operator, **headers},
        )

    async def ask(self, payer: UUID, /, **changes: Any) -> httpx.Response:
        """For an authorisation, as this account."""
        body = {
            "id": str(new_id()), "instance_id": str(new_id()), "node_id": str(self.host_id),
            "gpu_count": 1, "mode": "gpu", **changes,
        }  # fmt: skip
        return await self.http.post("/internal/authorisations", json=body, headers=self.of(payer))

    async def authorised(self, account_id: UUID, **changes: Any) -> Run:
        instance_id = new_id()
        answer = await self.ask(account_id, instance_id=str(instance_id), **changes)
        assert answer.status_code == 200, answer.text
        made = answer.json()
        return Run(UUID(made["id"]), account_id, instance_id, Decimal(made["price_per_hour"]))

    async def running(self, account_id: UUID, since: datetime = T0, **changes: Any) -> Run:
        run = await self.authorised(account_id, **changes)
        await self.tell(run.started(since))
        return run

    async def get(self, account_id: UUID, path: str, **query: Any) -> Any:
        answer = await self.http.get(f"/api/v1{path}", params=query, headers=self.of(account_id))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def wallet(self, account_id: UUID) -> tuple[Amount, Amount, Amount]:
        """Balance, held, available."""
        shown = await self.get(account_id, "/wallet")
        return Decimal(shown["balance"]), Decimal(shown["held"]), Decimal(shown["available"])

    async def bill(self, account_id: UUID) -> Json:
        items = (await self.get(account_id, "/bills"))["items"]
        assert len(items) == 1, items
        bill: Json = items[0]
        return bill

    async def entries(self, account_id: UUID) -> list[Json]:
        items: list[Json] = (await self.get(account_id, "/wallet/entries", size=200))["items"]
        return items

    async def settle(self, run: Run, now: datetime) -> None:
        """The hourly worker comes by at `now`."""
        async with self.tools.database.transaction() as session:
            await settle_hour(session, run.id, now, GRACE)

    async def watch(self, account_id: UUID, now: datetime) -> None:
        """The balance worker comes by at `now`."""
        async with self.tools.database.transaction() as session:
            await watch_balance(session, self.tools.settings, account_id, now)

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.tools.database.transaction() as session:
            return list((await session.execute(text(statement), values)).all())

    async def state_of(self, run: Run) -> tuple[str, Amount]:
        """State and hold of an authorisation."""
        statement = "SELECT state, held FROM authorisations WHERE id = :id"
        state, held = (await self.rows(statement, id=run.id))[0]
        return state, held

    async def told(self, kind: type[Payload]) -> list[Json]:
        """What the market wrote for others, relayed or not."""
        statement = "SELECT envelope FROM outbox ORDER BY position"
        envelopes = [row[0] for row in await self.rows(statement)]
        return [e["data"] for e in envelopes if e["type"] == kind.type]


Opener = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(database_url: str) -> Opener:
    unique = new_id().hex

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[House]:
        settings = MarketSettings(
            **{
                "database_url": database_url, "bus_url": f"memory://{unique}",
                "redis_url": f"memory://{unique}", "auth_url": "http://127.0.0.1:1",
                "service_secret": SecretStr("x" * 32),
                # The workers pass once at the start; after that the tests say when.
                "settle_s": 3600, "watch_s": 60, "expiry_s": 3600, "wallet_patience_s": 0.2,
                **changes,
            }
        )  # fmt: skip
        identity = TestIdentity()
        scheduler = FakeScheduler()
        app = create_app(settings, key_source=identity, scheduler=scheduler)
        bus = open_bus(f"memory://{unique}")
        heard: list[Envelope] = []

        async def hear(envelope: Envelope) -> None:
            heard.append(envelope)

        await bus.subscribe(Subscription("test.facts", ("market.*.*",), hear))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://market") as http:
                house = House(app, http, bus, identity, heard, scheduler)
                await house.host(house.host_id)
                yield house
                assert await verify_ledger(house.tools) == 0
                assert await house.rows("SELECT type, error FROM dead_letters") == []
        await bus.close()

    return start


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    async with open_house() as started:
        yield started


@pytest.fixture
async def payer(house: House) -> UUID:
    return await house.account("100")
