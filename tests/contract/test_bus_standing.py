"""What somebody removes at the broker comes back, and whoever watches is told what to do."""

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.bus import AmqpBus, Keeping, Subscription
from shared.bus.broker import consumer, standing
from shared.events import Envelope
from shared.events.agent import ImageReported
from shared.ids import new_id
from tests.broker import Broker
from tests.contract.test_bus import Heard, happened
from tests.contract.test_bus_on_broker import publish_until_taken, until

Logs = list[MutableMapping[str, Any]]
PATTERN = "test.thing.*"
KEY = "test.thing.*.*"


@pytest.fixture
async def management_url(broker: Broker) -> str:
    return f"http://127.0.0.1:{broker.admin_port}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "RENEW_S", 0.3)


@pytest.fixture
async def bus(broker_url: str, management_url: str) -> AsyncIterator[AmqpBus]:
    bus = AmqpBus(broker_url, management_url)
    yield bus
    await bus.close()


@pytest.fixture
async def blind(broker_url: str) -> AsyncIterator[AmqpBus]:
    """Without a management API."""
    bus = AmqpBus(broker_url)
    yield bus
    await bus.close()


@pytest.fixture
async def bare(broker_url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(broker_url) as connection:
        yield await connection.channel(on_return_raises=True)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as found:
        yield found


def name() -> str:
    """Of a queue: metrics outlive a test."""
    return f"test.q{new_id().hex}"


def repairs(queue: str, what: str) -> float | None:
    labels = {"queue": queue, "what": what}
    return REGISTRY.get_sample_value("chusuan_bus_repairs_total", labels)


def told(logs: Logs) -> Logs:
    return [line for line in logs if line["event"] == "queue_repaired"]


async def until_told(logs: Logs) -> MutableMapping[str, Any]:
    async def is_told() -> bool:
        return bool(told(logs))

    await until(is_told)
    return told(logs)[0]


async def test_a_lost_binding_beside_a_whole_one_is_made_again_and_told_with_its_cure(
    bus: AmqpBus, bare: AbstractChannel, logs: Logs
) -> None:
    """Nobody else could notice: the fact has a queue that takes it."""
    queue, heard, other = name(), Heard(), Heard()
    await bus.subscribe(Subscription(queue, (PATTERN,), heard.take))
    await bus.subscribe(Subscription(name(), ("test.#",), other.take))
    assert (repairs(queue, "binding"), repairs(queue, "queue")) == (0, 0)
    await (await bare.get_queue(queue, ensure=False)).unbind("chusuan.facts", KEY)
    await bus.publish(happened(1))
    line = await until_told(logs)
    assert (line["log_level"], line["queue"], line["lost"]) == ("error", queue, [KEY])
    assert line["cure"].startswith("chusuan events retell test --since 20")
    assert repairs(queue, "binding") == 1
    at = REGISTRY.get_sample_value("chusuan_bus_repaired_timestamp_seconds", {"queue": queue})
    assert at is not None
    await bus.publish(happened(2))
    await other.until(lambda seen: len(seen) == 2)
    await heard.until(bool)
    assert 1 not in heard.numbers
    assert 2 in heard.numbers
    assert len(told(logs)) == 1


@pytest.mark.parametrize("sees", [True, False])
async def test_a_lost_queue_is_made_again_and_told_once(
    bus: AmqpBus, blind: AmqpBus, bare: AbstractChannel, logs: Logs, sees: bool
) -> None:
    queue, heard = name(), Heard()
    client = bus if sees else blind
    await client.subscribe(Subscription(queue, (PATTERN,), heard.take))
    await bare.queue_delete(queue)
    assert (await until_told(logs))["lost"] == ["queue"]
    await publish_until_taken(client, happened(1))
    await heard.until(bool)
    assert repairs(queue, "queue") == 1
    assert len(told(logs)) == 1


async def test_without_a_management_api_a_lost_binding_is_made_again_all_the_same(
    blind: AmqpBus, bare: AbstractChannel
) -> None:
    queue, heard = name(), Heard()
    await blind.subscribe(Subscription(queue, (PATTERN,), heard.take))
    await (await bare.get_queue(queue, ensure=False)).unbind("chusuan.facts", KEY)
    await publish_until_taken(blind, happened(1))
    await heard.until(bool)


async def test_what_was_removed_while_no_consumer_ran_is_told_by_the_next_one(
    broker_url: str, management_url: str, bare: AbstractChannel, logs: Logs
) -> None:
    queue, heard = name(), Heard()
    subscription = Subscription(queue, (PATTERN,), heard.take)
    for removed in ("binding", "queue"):
        first = AmqpBus(broker_url, management_url)
        await first.subscribe(subscription)
        await first.close()
        if removed == "queue":
            await bare.queue_delete(queue)
        else:
            await (await bare.get_queue(queue, ensure=False)).unbind("chusuan.facts", KEY)
        logs.clear()
        second = AmqpBus(broker_url, management_url)
        await second.subscribe(subscription)
        assert "--since TIME" in (await until_told(logs))["cure"]
        await second.close()


async def test_a_queue_or_pattern_that_is_new_is_no_loss(
    broker_url: str, management_url: str, logs: Logs
) -> None:
    queue, heard = name(), Heard()
    for patterns in ((PATTERN,), (PATTERN, "test.other.*")):
        bus = AmqpBus(broker_url, management_url)
        await bus.subscribe(Subscription(queue, patterns, heard.take))
        await publish_until_taken(bus, happened(1))
        await heard.until(bool)
        await bus.close()
    assert told(logs) == []


async def test_reports_reach_their_service_again_though_their_binding_was_removed(
    bus: AmqpBus, bare: AbstractChannel, logs: Logs
) -> None:
    queue = name()
    arrived = asyncio.Event()

    async def take(event: Envelope) -> None:
        arrived.set()

    pattern = ImageReported.type
    await bus.subscribe(Subscription(queue, (pattern,), take, keeping=Keeping.states))
    await (await bare.get_queue(queue, ensure=False)).unbind("chusuan.reports", f"{pattern}.*")
    reported = ImageReported(image_id=new_id(), state="building")
    await publish_until_taken(bus, Envelope.wrap(reported, subject=new_id()))
    async with asyncio.timeout(30):
        await arrived.wait()
    # They are said again by themselves: nobody has to do anything.
    assert (await until_told(logs))["log_level"] == "warning"


async def test_who_may_not_look_or_gets_no_answer_consumes_all_the_same(
    broker: Broker, broker_url: str, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    monkeypatch.setattr(standing, "LOOK_S", 0.3)
    vhost = broker_url.rpartition("/")[2]
    await broker.ctl("add_user", "no-manager", "secret")
    await broker.ctl("set_permissions", "-p", vhost, "no-manager", ".*", ".*", ".*")

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    hangs = await asyncio.start_server(hang, "127.0.0.1", 0)
    silent_port = hangs.sockets[0].getsockname()[1]
    try:
        for port in (broker.admin_port, silent_port):
            logs.clear()
            heard = Heard()
            url = broker.url_for("no-manager", "secret", vhost)
            bus = AmqpBus(url, f"http://127.0.0.1:{port}")
            await bus.subscribe(Subscription(name(), (PATTERN,), heard.take))
            await publish_until_taken(bus, happened(1))
            await heard.until(bool)
            await bus.close()
            assert [line["event"] for line in logs].count("bindings_unseen") == 1
    finally:
        hangs.close()
        await broker.ctl("delete_user", "no-manager")
