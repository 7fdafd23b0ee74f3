"""The bus inside one process, as the one who composes it uses it."""

import asyncio
from typing import ClassVar

import pytest

from shared.bus import MemoryBus, Subscription, Undeliverable
from shared.events import Envelope, Payload


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"


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
