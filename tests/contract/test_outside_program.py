"""The program of docs/events.md, as it stands there, at a real broker that really admits it."""

import asyncio
import contextlib
import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelAccessRefused
from pydantic import SecretStr

from services.auth.main import create_app
from services.auth.settings import AuthSettings
from services.auth.tailing import Tails
from shared.bus import Bus, Undeliverable, open_bus
from shared.events import Envelope
from shared.events.market import WalletCredited
from shared.events.scheduler import InstanceReleased
from shared.ids import new_id
from tests.broker import Broker

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
PASSWORD = "first-operator-password"
PATH = "/api/v1/events/subscribers"
Json = dict[str, Any]


@dataclass
class House:
    """auth before a real broker, and an operator. bus: by which the platform tells."""

    http: httpx.AsyncClient
    bus: Bus

    async def admit(self, *patterns: str) -> Json:
        """A new program, once the broker knows it."""
        body = {"name": f"p{new_id().hex[-10:]}", "patterns": list(patterns)}
        answer = await self.http.post(PATH, json=body)
        assert answer.status_code == 201, answer.text
        added: Json = answer.json()
        await self.until(added["name"], "standing")
        return added

    async def until(self, name: str, state: str | None) -> None:
        async with asyncio.timeout(60):
            while True:
                items = (await self.http.get(PATH, params={"size": 200})).json()["items"]
                found = {item["name"]: item for item in items}.get(name, {})
                if found.get("state") == state:
                    return
                await asyncio.sleep(0.05)

    async def credit(self, amount: str) -> Envelope:
        """Told again until the broker has it, as the outbox does."""
        by = new_id()
        credited = WalletCredited(
            account_id=by, transaction_id=by, amount=Decimal(amount), note="", by=by
        )
        event = Envelope.wrap(credited, subject=by)
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.bus.publish(event)
                    return event
                except Undeliverable:
                    await asyncio.sleep(0.1)


@pytest.fixture
async def house(broker: Broker, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "operator-password").write_text(PASSWORD)
    app = create_app(
        AuthSettings(
            database_url=database_url,
            bus_url=broker.url,
            redis_url=f"memory://{new_id()}",
            service_secret=SecretStr("s" * 32),
            signing_key_file=tmp_path / "key.pem",
            first_operator_password_file=tmp_path / "operator-password",
            broker_admin_url=SecretStr(broker.admin_url),
            broker_public_url=f"amqp://{broker.url.partition('@')[2]}",
        )
    )
    bus = open_bus(broker.url)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://auth") as http,
    ):
        login = {"username": "admin", "password": PASSWORD}
        token = (await http.post("/api/v1/sessions", json=login)).json()["access_token"]
        http.headers["authorization"] = f"Bearer {token}"
        yield House(http, bus)
    await bus.close()


@dataclass
class Program:
    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def until_it_says(self, words: str) -> None:
        """Reads on until a line holds them."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, (self.said, "the program has ended")
                self.said.append(line)
                if words in line:
                    return


@contextlib.asynccontextmanager
async def running(folder: Path, added: Json) -> AsyncIterator[Program]:
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    (folder / "program.py").write_text(code)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "program.py", cwd=folder,
        env={**os.environ, "EVENTS_URL": added["url"], "EVENTS_QUEUE": added["queue"]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        program = Program(process)
        await program.until_it_says("listening")
        yield program
    finally:
        process.kill()
        await process.wait()


async def test_the_program_counts_each_event_once_through_repeats_cuts_and_absence(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    added = await house.admit("market.#")
    async with running(tmp_path, added) as program:
        event = await house.credit("1.0000")
        await house.bus.publish(event)
        await program.until_it_says((await house.credit("2.0000")).subject)
        await broker.ctl("close_all_connections", "--vhost", "chusuan", "test")
        await program.until_it_says("listening")
        await program.until_it_says((await house.credit("3.0000")).subject)
    await house.credit("4.0000")
    await house.bus.publish(event)
    last = await house.credit("5.0000")
    async with running(tmp_path, added) as program:
        await program.until_it_says(last.subject)
    with contextlib.closing(sqlite3.connect(tmp_path / "events.db")) as database:
        amounts = [row[0] for row in database.execute("SELECT amount FROM credits ORDER BY rowid")]
    assert amounts == ["1.0000", "2.0000", "3.0000", "4.0000", "5.0000"]


async def test_a_program_hears_what_it_asked_for_alone(house: House, tmp_path: Path) -> None:
    added = await house.admit("scheduler.instance.released")
    await house.credit("9.0000")
    instance = new_id()
    released = InstanceReleased(instance_id=instance, account_id=instance)
    await house.bus.publish(Envelope.wrap(released, subject=instance))
    async with await aio_pika.connect(added["url"]) as connection:
        queue = await (await connection.channel()).get_queue(added["queue"], ensure=False)
        async with asyncio.timeout(30), queue.iterator() as messages:
            message = await anext(messages)
            await message.ack()
            event = Envelope.model_validate_json(message.body)
    assert (event.type, event.subject) == ("scheduler.instance.released", str(instance))
    assert message.content_type == "application/cloudevents+json"


async def test_its_queue_is_bounded_and_drops_the_oldest(house: House, broker: Broker) -> None:
    added = await house.admit("market.#")
    async with httpx.AsyncClient(base_url=broker.admin_url, trust_env=False) as http:
        queue = (await http.get(f"/api/queues/chusuan/{added['queue']}")).json()
    arguments = queue["arguments"]
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-message-ttl"] == 7 * 24 * 3600 * 1000
    assert arguments["x-max-length"] == 100_000
    assert arguments["x-overflow"] == "drop-head"
    assert "x-dead-letter-exchange" not in arguments


Attempt = Callable[[AbstractChannel, str, str], Awaitable[object]]


async def declare(channel: AbstractChannel, own: str, other: str) -> None:
    await channel.declare_queue("mine")


async def bind(channel: AbstractChannel, own: str, other: str) -> None:
    await (await channel.get_queue(own, ensure=False)).bind("chusuan.orders", "#")


async def read_anothers(channel: AbstractChannel, own: str, other: str) -> None:
    await (await channel.get_queue(other, ensure=False)).get(fail=False)


async def delete(channel: AbstractChannel, own: str, other: str) -> None:
    await (await channel.get_queue(own, ensure=False)).delete()


def publish(exchange: str) -> Attempt:
    async def attempt(channel: AbstractChannel, own: str, other: str) -> None:
        target = await channel.get_exchange(exchange, ensure=False)
        await target.publish(aio_pika.Message(b"{}"), "market.wallet.credited.x")

    return attempt


async def test_its_login_may_read_its_own_queue_and_no_more(house: House) -> None:
    added, other = await house.admit("market.#"), await house.admit("auth.#")
    exchanges = ("chusuan.facts", "chusuan.orders", "chusuan.reports")
    attempts = [declare, bind, read_anothers, delete, *map(publish, exchanges)]
    async with await aio_pika.connect(added["url"]) as connection:
        for attempt in attempts:
            channel = await connection.channel()
            with pytest.raises(ChannelAccessRefused):
                await attempt(channel, added["queue"], other["queue"])


async def test_a_removed_program_is_out_at_once(house: House, tmp_path: Path) -> None:
    added = await house.admit("market.#")
    async with running(tmp_path, added) as program:
        answer = await house.http.delete(f"{PATH}/{added['id']}")
        assert answer.status_code == 204
        await house.until(added["name"], None)
        await program.until_it_says("the broker is away")
    with pytest.raises((AMQPError, OSError)):
        await aio_pika.connect(added["url"])


async def test_a_program_that_is_gone_is_in_nobodys_way(house: House, broker: Broker) -> None:
    added = await house.admit("market.#")
    await broker.ctl("delete_queue", "--vhost", "chusuan", added["queue"])
    await house.credit("1.0000")


async def test_a_tail_at_a_real_broker_hears_facts_and_leaves_no_queue(
    house: House, broker: Broker
) -> None:
    async with Tails(house.bus).open(["#"]) as tail:
        event = await house.credit("1.0000")
        heard: list[UUID] = []
        while event.id not in heard:
            found = (await tail.read(30)).events
            assert found, "nothing came"
            heard += [each.id for each in found]
    async with asyncio.timeout(30):
        while "auth.tail." in await broker.ctl("list_queues", "--vhost", "chusuan", "name"):
            await asyncio.sleep(0.1)
