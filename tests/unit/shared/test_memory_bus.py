"""The bus inside one process, as the one who composes it uses it."""

import asyncio
from typing import ClassVar

from shared.bus import MemoryBus, Subscription
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
