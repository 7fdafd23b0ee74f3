"""What the bus on RabbitMQ does when the broker, a queue or a consumer breaks."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from shared.bus import AmqpBus, Keeping, Subscription, Undeliverable, topology
from shared.bus.broker import consumer, publisher
from shared.bus.topology import DELIVERY_LIMIT
from shared.events import Envelope
from shared.events.agent import ImagesWanted
from tests.broker import Broker
from tests.contract.test_bus import Happened, Heard, happened

WITHIN_S = 60.0


@pytest.fixture
async def bus(broker_url: str) -> AsyncIterator[AmqpBus]:
    bus = AmqpBus(broker_url)
    yield bus
    await bus.close()


@pytest.fixture
async def bare(broker_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel of a client that is not ours."""
    async with await aio_pika.connect(broker_url) as connection:
        yield await connection.channel(on_return_raises=True)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():
            await asyncio.sleep(0.05)


async def publish_until_taken(bus: AmqpBus, event: Envelope) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await bus.publish(event)
            except Undeliverable:
                await asyncio.sleep(0.2)


async def publish_until_refused(bus: AmqpBus) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            await bus.publish(happened(2))


async def waiting_in(channel: AbstractChannel, queue: str) -> int:
    found = await channel.declare_queue(queue, passive=True)
    return found.declaration_result.message_count or 0


async def burst(bus: AmqpBus, count: int, strike: Callable[[], Awaitable[object]]) -> list[int]:
    """Publishes, and strikes in the midst of it; each is published until confirmed."""

    async def one_subject(subject: int) -> None:
        for number in range(subject, count, 10):
            await publish_until_taken(bus, happened(number, str(subject)))

    publishing = [asyncio.create_task(one_subject(subject)) for subject in range(10)]
    await strike()
    await asyncio.gather(*publishing)
    return list(range(count))


def in_order(numbers: list[object]) -> bool:
    """First arrivals of each subject; a doubled one may come again later."""
    first = [n for n in dict.fromkeys(numbers) if isinstance(n, int)]
    return all(
        of_subject == sorted(of_subject)
        for of_subject in ([n for n in first if n % 10 == subject] for subject in range(10))
    )


async def test_all_that_was_confirmed_arrives_in_order_though_connections_are_cut(
    broker: Broker, bus: AmqpBus
) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.#",), heard.take))

    async def cut() -> None:
        await heard.until(lambda seen: len(seen) > 50)
        await broker.ctl("close_all_connections", "test")

    confirmed = await burst(bus, 2000, cut)
    await heard.until(lambda seen: set(confirmed) <= set(seen))
    assert in_order(heard.numbers)


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_all_that_was_confirmed_arrives_though_the_broker_went(
    broker: Broker, bus: AmqpBus, how: str
) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.#",), heard.take))
    assert await bus.alive(within_s=5)
    await broker.settle()

    async def strike() -> None:
        await heard.until(lambda seen: len(seen) > 50)
        if how == "restart":
            await broker.stop()
        else:
            await broker.kill()
        began = time.monotonic()
        await asyncio.sleep(1.1)
        assert not await bus.alive(within_s=1.0)
        with pytest.raises(Undeliverable):
            await bus.publish(happened(-1))
        assert time.monotonic() - began < 5
        await broker.start()

    confirmed = await burst(bus, 2000, strike)
    await heard.until(lambda seen: set(confirmed) <= set(seen))
    assert in_order([n for n in heard.numbers if n != -1])
    await until(lambda: bus.alive(within_s=1.0))


async def test_a_process_starts_while_the_broker_is_away_and_hears_when_it_is_back(
    broker: Broker, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.amqp.SUBSCRIBE_S", 0.5)
    await broker.stop()
    bus, heard = AmqpBus(broker_url), Heard()
    try:
        began = time.monotonic()
        for queue in "abcd":
            await bus.subscribe(Subscription(queue, ("test.#",), heard.take))
        assert time.monotonic() - began < 2
        assert not await bus.alive(within_s=0.5)
        await broker.start()
        await until(lambda: bus.alive(within_s=1.0))
        await publish_until_taken(bus, happened(1))
        await heard.until(bool)
    finally:
        await bus.close()


async def test_a_blocked_broker_makes_publish_fail_in_time_and_not_hang(
    broker: Broker, bus: AmqpBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_S", 1.0)
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.#",), heard.take))
    await bus.publish(happened(1))
    await broker.ctl("set_vm_memory_high_watermark", "0")
    try:
        with pytest.raises(Undeliverable):
            await publish_until_refused(bus)
        assert not await bus.alive(within_s=1.5)
    finally:
        await broker.ctl("set_vm_memory_high_watermark", "0.4")
    await publish_until_taken(bus, happened(3))
    await heard.until(lambda seen: 3 in seen)


async def test_an_order_for_which_there_is_no_queue_is_undeliverable(bus: AmqpBus) -> None:
    with pytest.raises(Undeliverable):
        await bus.publish(Envelope.wrap(ImagesWanted(images=[]), subject=UUID(int=1)))


async def test_a_removed_binding_is_noticed_and_made_again(
    bus: AmqpBus, bare: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "RENEW_S", 1.0)
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.thing.*",), heard.take))
    queue = await bare.get_queue("q", ensure=False)
    await queue.unbind("chusuan.facts", "test.thing.*.*")
    with pytest.raises(Undeliverable):
        await bus.publish(happened(1))
    await publish_until_taken(bus, happened(2))
    await heard.until(lambda seen: 2 in seen)


async def test_a_removed_queue_is_noticed_and_made_again(
    bus: AmqpBus, bare: AbstractChannel
) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.thing.*",), heard.take))
    await bare.queue_delete("q")
    await publish_until_taken(bus, happened(1))
    await heard.until(bool)


async def test_a_fact_for_a_queue_whose_consumer_is_away_waits_for_it(
    broker_url: str, bus: AmqpBus
) -> None:
    heard = Heard()
    gone = AmqpBus(broker_url)
    await gone.subscribe(Subscription("q", ("test.thing.*",), heard.take))
    await gone.close()
    await bus.publish(happened(1))
    await bus.subscribe(Subscription("q", ("test.thing.*",), heard.take))
    assert await heard.until(bool) == [1]


async def test_what_can_not_be_read_is_parked_and_its_neighbours_go_on(
    bus: AmqpBus, bare: AbstractChannel
) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.thing.*",), heard.take))
    facts = await bare.get_exchange("chusuan.facts", ensure=False)
    key = "test.thing.happened.one"
    other = Envelope.wrap(Happened(number=9), subject="another")
    liar = json.dumps({**other.model_dump(mode="json"), "type": "auth.account.approved"})
    for body in (
        b"not json",
        b"{}",
        b"\xff" * 1_000_000,
        liar.encode(),
        other.model_dump_json().encode(),
    ):
        await facts.publish(aio_pika.Message(body), key)
    await bus.publish(happened(1))
    assert await heard.until(bool) == [1]

    async def all_parked() -> bool:
        return await waiting_in(bare, "q.dead") == 5

    await until(all_parked)


KILLER = """
import asyncio, os, sys
from shared.bus import AmqpBus, Subscription, topology

topology.DELIVERY_LIMIT = int(sys.argv[2])

async def main():
    bus = AmqpBus(sys.argv[1])
    lone = asyncio.Event()

    async def handler(event):
        if event.data["number"] == 7:
            os._exit(137)
        print(event.data["number"], flush=True)

    await bus.subscribe(Subscription("q", ("test.thing.*",), handler))
    await lone.wait()

asyncio.run(main())
"""


async def test_an_event_that_kills_its_consumer_is_parked_and_its_neighbours_are_handled(
    broker_url: str, bus: AmqpBus, bare: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each death takes what was in flight with it; only the killer may be given up."""
    limit = 5
    monkeypatch.setattr(topology, "DELIVERY_LIMIT", limit)
    first = Heard()
    await bus.subscribe(Subscription("q", ("test.thing.*",), first.take))
    await bus.unsubscribe("q")
    for number in range(30):
        await bus.publish(happened(number, str(number)))
    handled: set[str] = set()
    deaths = 0

    async def read(output: asyncio.StreamReader) -> None:
        async for line in output:
            handled.add(line.decode().strip())

    async def live_once() -> None:
        nonlocal deaths
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLER, broker_url, str(limit), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        reading = asyncio.create_task(read(process.stdout))

        async def over() -> bool:
            return process.returncode is not None or bool(await waiting_in(bare, "q.dead"))

        await until(over)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
        deaths += 1

    while not await waiting_in(bare, "q.dead"):
        assert deaths <= limit + 1
        await live_once()
    await bus.subscribe(Subscription("q", ("test.thing.*",), first.take))

    async def all_handled() -> bool:
        return len(handled | {str(number) for number in first.numbers}) == 29

    await until(all_handled)
    assert await waiting_in(bare, "q.dead") == 1


async def test_a_long_outage_of_what_handlers_need_parks_nothing(
    bus: AmqpBus, bare: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "HOLD_S", 0.05)
    monkeypatch.setattr(consumer, "LONGEST_DELAY_S", 0.05)
    monkeypatch.setattr(consumer, "PAUSE_S", 0.01)
    heard, tries = Heard(), 0

    async def handler(event: Envelope) -> None:
        nonlocal tries
        tries += 1
        # Many times what the delivery limit would bear if each failure counted.
        if tries < DELIVERY_LIMIT * 10:
            raise OSError("the database is away")
        await heard.take(event)

    await bus.subscribe(Subscription("q", ("test.thing.*",), handler))
    for number in range(20):
        await bus.publish(happened(number, str(number)))
    await heard.until(lambda seen: set(seen) == set(range(20)))
    assert await waiting_in(bare, "q.dead") == 0


async def test_an_event_that_alone_fails_for_ever_is_parked_in_the_end(
    bus: AmqpBus, bare: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "HOLD_S", 0.2)
    monkeypatch.setattr(consumer, "LONGEST_DELAY_S", 0.02)
    heard = Heard()

    async def handler(event: Envelope) -> None:
        if event.data["number"] == -7:
            raise ValueError("never")
        await heard.take(event)

    await bus.subscribe(Subscription("q", ("test.thing.*",), handler))
    await bus.publish(happened(-7, "hard"))
    number = 0
    async with asyncio.timeout(WITHIN_S):
        while not await waiting_in(bare, "q.dead"):
            await bus.publish(happened(number, "easy"))
            number += 1
    await heard.until(lambda seen: len(set(seen)) == number)


async def test_an_event_that_fails_alone_in_a_quiet_queue_does_not_mute_it(
    bus: AmqpBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOLD_S": 0.1, "OUTAGE_S": 0.1, "LONGEST_DELAY_S": 0.05}.items():
        monkeypatch.setattr(consumer, name, value)
    heard, paused = Heard(), asyncio.Event()
    tries = 0

    async def handler(event: Envelope) -> None:
        nonlocal tries
        if event.data["number"] == -7:
            tries += 1
            if tries > 5:
                paused.set()
            raise ValueError("never")
        await heard.take(event)

    await bus.subscribe(Subscription("q", ("test.thing.*",), handler))
    await bus.publish(happened(-7, "hard"))
    await paused.wait()
    await bus.publish(happened(1, "easy"))
    assert await heard.until(bool) == [1]


async def test_states_that_nobody_takes_end_by_themselves(
    bus: AmqpBus, bare: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "STATE_TTL_MS", 2000)
    heard = Heard()
    wanted = Subscription("orders", (ImagesWanted.type,), heard.take, keeping=Keeping.states)
    await bus.subscribe(wanted)
    await bus.unsubscribe("orders")
    await bus.publish(Envelope.wrap(ImagesWanted(images=[]), subject="all"))
    assert await waiting_in(bare, "orders") == 1

    async def is_empty() -> bool:
        return await waiting_in(bare, "orders") == 0

    await until(is_empty)
