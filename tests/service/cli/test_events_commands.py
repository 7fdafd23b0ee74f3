"""`chusuan events` as operators start it, through the real gateway, in front of the real auth."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from gateway.main import create_app as create_gateway
from gateway.settings import GatewaySettings
from services.auth.main import create_app
from services.auth.settings import AuthSettings
from shared.app import Runtime
from shared.bus import MemoryBus
from shared.events import Envelope
from shared.events.market import WalletExhausted
from shared.ids import new_id
from shared.inbox import DEAD_LETTERS
from tests.service.auth.test_auth_subscribers import Broker
from tests.service.gateway.serving import free_port, served

PASSWORD = "first-operator-password"
Chusuan = Callable[..., Awaitable[tuple[int, str, str]]]


@dataclass
class House:
    app: FastAPI
    url: str
    home: Path

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.state.runtime
        return runtime

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", *words,
            env={
                **os.environ, "XDG_CONFIG_HOME": str(self.home), "CHUSUAN_URL": self.url,
                "LC_ALL": "C.UTF-8",
            },
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        process = await self.start(*words)
        output, errors = await process.communicate(stdin.encode())
        return process.returncode or 0, output.decode(), errors.decode()

    async def park(self, error: str = "ValueError('no')") -> Envelope:
        """An event that the audit trail could not take."""
        event = Envelope.wrap(WalletExhausted(account_id=new_id()), subject="one")
        async with self.runtime.database.transaction() as session:
            row = insert(DEAD_LETTERS).values(
                consumer="auth.audit",
                event_id=event.id,
                type=event.type,
                envelope=event.model_dump(mode="json"),
                error=error,
                attempts=5,
            )
            await session.execute(row)
        return event


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "operator-password").write_text(PASSWORD)
    unique, port, auth_port = new_id().hex, free_port(), free_port()
    auth = create_app(
        AuthSettings(
            database_url=database_url,
            bus_url=f"memory://{unique}",
            redis_url=f"memory://{unique}",
            service_secret=SecretStr("s" * 32),
            signing_key_file=tmp_path / "key.pem",
            first_operator_password_file=tmp_path / "operator-password",
            broker_admin_url=SecretStr("http://broker:15672"),
            broker_public_url="amqps://broker.example.org:5671/chusuan",
        ),
        admission=Broker(),
    )
    gateway = create_gateway(
        GatewaySettings(
            upstreams={"auth": f"http://127.0.0.1:{auth_port}"},
            service_secret=SecretStr("s" * 32),
            redis_url=f"memory://{unique}",
        )
    )
    quick = {"timeout_graceful_shutdown": 1}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served((auth, {"port": auth_port, **quick})))
        await stack.enter_async_context(served((gateway, {"port": port, **quick})))
        opened = House(auth, f"http://127.0.0.1:{port}", tmp_path / "home")
        code, _, errors = await opened.run(
            "login", "admin", "--password-stdin", stdin=f"{PASSWORD}\n"
        )
        assert code == 0, errors
        yield opened


async def somebody_watches(house: House) -> None:
    bus = house.runtime.bus
    assert isinstance(bus, MemoryBus)
    async with asyncio.timeout(30):
        while not bus._unkept:
            await asyncio.sleep(0.02)


async def test_tail_prints_one_object_a_line_as_it_happens_and_leaves_nothing(
    house: House,
) -> None:
    process = await house.start("events", "tail", "market.#", "--json")
    await somebody_watches(house)
    assert process.stdout is not None
    for _ in range(2):
        event = Envelope.wrap(WalletExhausted(account_id=new_id()), subject="one")
        await house.runtime.bus.publish(event)
        # Each before the next is told: nothing on the way holds it back.
        async with asyncio.timeout(20):
            line = json.loads(await process.stdout.readline())
        assert line["id"] == str(event.id)
        assert line["data"] == event.data
    process.terminate()
    await process.wait()
    bus = house.runtime.bus
    assert isinstance(bus, MemoryBus)
    async with asyncio.timeout(20):
        while bus._unkept:
            await asyncio.sleep(0.02)


async def test_tail_ends_by_itself_after_so_many(house: House) -> None:
    process = await house.start("events", "tail", "--limit", "1")
    await somebody_watches(house)
    await house.runtime.bus.publish(
        Envelope.wrap(WalletExhausted(account_id=new_id()), subject="one")
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert "market.wallet.exhausted  one" in output.decode()
    code, _, error = await house.run("events", "tail", "agent.#")
    assert code == 1
    assert "No event fits" in error


async def test_a_dead_letter_is_found_shown_and_replayed(house: House) -> None:
    event = await house.park()
    code, output, errors = await house.run("events", "dead", "list", "--json")
    assert code == 0, errors
    (listed,) = json.loads(output)["items"]
    assert (listed["event_id"], listed["consumer"]) == (str(event.id), "auth.audit")
    assert "market does not answer" in errors
    code, output, errors = await house.run("events", "dead", "show", str(event.id))
    assert code == 0, errors
    assert "ValueError('no')" in output
    assert '"account_id"' in output
    code, output, errors = await house.run("events", "stats", "--json")
    assert code == 0, errors
    assert json.loads(output)["items"][0]["dead_letters"] == 1
    assert (await house.run("events", "stats"))[0] == 0
    code, output, errors = await house.run("events", "dead", "replay", str(event.id))
    assert code == 0, errors
    assert "auth.audit has handled market.wallet.exhausted" in output
    assert json.loads((await house.run("events", "dead", "list", "--json"))[1])["total"] == 0
    code, _, errors = await house.run("events", "dead", "replay", str(event.id))
    assert code == 1
    assert "no dead letter" in errors


async def test_all_dead_letters_of_a_consumer_are_replayed_or_named(house: House) -> None:
    for _ in range(3):
        await house.park()
    words = ("events", "dead", "replay", "--all", "--consumer", "auth.audit", "--json")
    code, output, errors = await house.run(*words)
    assert code == 0, errors
    answer = json.loads(output)
    assert (len(answer["replayed"]), answer["failed"], answer["left"]) == (3, [], 0)
    assert (await house.run("events", "dead", "replay"))[0] == 1


async def test_facts_are_told_again_and_their_number_is_said(house: House) -> None:
    """Those of auth itself: the first operator's making is one."""
    await everything_told(house)
    words = ("events", "retell", "auth", "--since", f"{datetime.now(UTC):%Y-%m-%dT00:00}Z")
    code, output, errors = await house.run(*words, "--type", "auth.ssh_key.*", "--json")
    assert code == 0, errors
    assert json.loads(output) == {"service": "auth", "retold": 0}
    await everything_told(house)
    code, output, errors = await house.run(*words)
    assert code == 0, errors
    assert "auth tells " in output
    await everything_told(house)
    code, output, errors = await house.run("--lang", "zh", *words[:3], "--since", "2020-01-01")
    assert code == 1
    assert "只保存到" in errors
    for odd in (("market-place", "2026-11-24"), ("auth", "yesterday")):
        code, _, errors = await house.run("events", "retell", odd[0], "--since", odd[1])
        assert code == 1, errors
    await trail_has(house, "auth.outbox.retold", 2)


async def everything_told(house: House) -> None:
    async with asyncio.timeout(20):
        while await count(house, "SELECT count(*) FROM outbox WHERE published_at IS NULL"):
            await asyncio.sleep(0.02)


async def trail_has(house: House, type_: str, wanted: int) -> None:
    statement = "SELECT count(*) FROM audit_entries WHERE type = :type"
    async with asyncio.timeout(20):
        while await count(house, statement, type=type_) < wanted:
            await asyncio.sleep(0.02)


async def count(house: House, statement: str, **values: object) -> int:
    async with house.runtime.database.transaction() as session:
        return int((await session.execute(text(statement), values)).scalar_one())


async def test_dropping_asks_first(house: House) -> None:
    event = await house.park()
    code, _, _ = await house.run("events", "dead", "drop", str(event.id), stdin="n\n")
    assert code == 1
    assert json.loads((await house.run("events", "dead", "list", "--json"))[1])["total"] == 1
    code, _, errors = await house.run("events", "dead", "drop", str(event.id), "--yes")
    assert code == 0, errors
    assert json.loads((await house.run("events", "dead", "list", "--json"))[1])["total"] == 0


async def test_a_program_outside_is_added_listed_and_removed(house: House) -> None:
    words = ("events", "subscribers", "add", "billing-export", "market.#", "auth.account.*")
    code, output, errors = await house.run(*words, "--json")
    assert code == 0, errors
    added = json.loads(output)
    assert added["url"].startswith(f"amqps://outside.billing-export:{added['password']}@")
    code, output, errors = await house.run("events", "subscribers", "list")
    assert code == 0, errors
    assert "market.# auth.account.*" in output
    assert added["password"] not in output
    code, _, errors = await house.run("events", "subscribers", "remove", "billing-export")
    assert code == 0, errors
    code, _, errors = await house.run("--lang", "zh", *words[:-2], "agent.#")
    assert code == 1
    assert "没有符合的事件" in errors


async def test_the_gateway_serves_the_document_of_events(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        found = (await http.get("/api/asyncapi.json")).json()
    assert found["asyncapi"] == "3.0.0"
    assert "auth.audit.hears.market.wallet.exhausted" in found["operations"]


async def test_the_document_of_calls_has_those_of_events_each_for_operators(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        paths = (await http.get("/api/openapi.json")).json()["paths"]
    letters = "/api/v1/dead-letters/auth"
    wanted = {
        letters, f"{letters}/{{consumer}}/replay", f"{letters}/{{consumer}}/{{event_id}}",
        f"{letters}/{{consumer}}/{{event_id}}/replay", "/api/v1/events/stats/auth",
        "/api/v1/events/subscribers", "/api/v1/events/subscribers/{subscriber_id}",
        "/api/v1/events/tail", "/api/v1/events/retell/auth",
    }  # fmt: skip
    assert wanted <= set(paths)
    for path in wanted:
        assert {operation["x-policy"] for operation in paths[path].values()} == {"operator"}
    told = paths["/api/v1/events/tail"]["get"]["responses"]["200"]["content"]
    assert list(told) == ["text/event-stream"]
