"""The bus inside one process, as the one who composes it uses it."""

import asyncio
from typing import ClassVar

import pytest

from shared.bus import Keeping, MemoryBus, Subscription, Undeliverable
from shared.bus.memory import MOST_UNKEPT
from shared.events import Envelope, Payload


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int = 0


async def test_what_is_told_before_all_have_subscribed_reaches_those_who_come_later() -> None:
    bus = MemoryBus()
    heard: list[Envelope] = []

    async def hear(event: Envelope) -> None:
        heard.append(event)

    bus.hold()
    early = asyncio.create_task(bus.publish(Envelope.wrap(Happened(), subject="one")))
    await asyncio.sleep(0)
    assert not early.done()
    await bus.subscribe(Subscription("late", ("test.#",), hear))
    bus.flow()
    await early
    assert len(heard) == 1


async def test_nobody_waits_for_or_fails_by_a_consumer_of_a_queue_that_keeps_nothing() -> None:
    bus = MemoryBus()
    seen: list[object] = []
    may_go_on, all_seen = asyncio.Event(), asyncio.Event()

    async def slow_and_faulty(event: Envelope) -> None:
        await may_go_on.wait()
        seen.append(event.data["number"])
        if event.data["number"] == 3:
            all_seen.set()
        raise RuntimeError("no")

    subscription = Subscription("watch", ("test.#",), slow_and_faulty, keeping=Keeping.nothing)
    await bus.subscribe(subscription)
    for number in (1, 2, 3):
        await bus.publish(Envelope.wrap(Happened(number=number), subject="one"))
    assert seen == []
    may_go_on.set()
    async with asyncio.timeout(10):
        await all_seen.wait()
    assert seen == [1, 2, 3]
    await bus.unsubscribe("watch")
    await bus.publish(Envelope.wrap(Happened(number=4), subject="one"))
    assert seen == [1, 2, 3]


async def test_a_queue_that_keeps_nothing_keeps_no_more_than_its_bound() -> None:
    bus = MemoryBus()
    seen: list[object] = []
    last_seen = asyncio.Event()

    async def note(event: Envelope) -> None:
        seen.append(event.data["number"])
        if event.data["number"] == MOST_UNKEPT + 9:
            last_seen.set()

    await bus.subscribe(Subscription("watch", ("test.#",), note, keeping=Keeping.nothing))
    for number in range(MOST_UNKEPT + 10):
        await bus.publish(Envelope.wrap(Happened(number=number), subject="one"))
    async with asyncio.timeout(10):
        await last_seen.wait()
    assert seen[-MOST_UNKEPT:] == list(range(10, MOST_UNKEPT + 10))
    await bus.close()


async def test_publish_returns_when_every_handler_has_finished() -> None:
    bus = MemoryBus()
    heard: list[Envelope] = []

    async def hear(event: Envelope) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    for queue in ("a", "b"):
        await bus.subscribe(Subscription(queue, ("test.#",), hear))
    await bus.publish(Envelope.wrap(Happened(), subject="one"))
    assert len(heard) == 2


async def test_a_failing_handler_leaves_the_event_with_the_publisher() -> None:
    bus = MemoryBus()

    async def refuse(event: Envelope) -> None:
        raise RuntimeError("no")

    await bus.subscribe(Subscription("q", ("test.#",), refuse))
    with pytest.raises(Undeliverable):
        await bus.publish(Envelope.wrap(Happened(), subject="one"))
