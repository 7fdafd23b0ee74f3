"""What every bus must do; each implementation joins by a row in `BUSES`."""

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from shared.bus import Bus, Subscription, Undeliverable, matches, open_bus
from shared.events import Envelope, Payload
from shared.ids import new_id

BUSES = ["memory://{name}"]


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int


def happened(number: int, subject: str = "one") -> Envelope:
    return Envelope.wrap(Happened(number=number), subject=subject)


@pytest.fixture(params=BUSES)
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    bus = open_bus(request.param.format(name=new_id().hex))
    yield bus
    await bus.close()


async def test_every_queue_gets_its_own_copy(bus: Bus) -> None:
    seen: dict[str, list[object]] = {"a": [], "b": []}
    for queue in seen:

        async def handler(event: Envelope, queue: str = queue) -> None:
            seen[queue].append(event.data["number"])

        await bus.subscribe(Subscription(queue, ("test.thing.*",), handler))
    await bus.publish(happened(1))
    assert seen == {"a": [1], "b": [1]}


async def test_events_of_one_subject_arrive_in_order(bus: Bus) -> None:
    seen: list[object] = []
    first_may_end = asyncio.Event()

    async def handler(event: Envelope) -> None:
        if event.data["number"] == 1:
            await first_may_end.wait()
        seen.append(event.data["number"])

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    publishing = [asyncio.create_task(bus.publish(happened(n))) for n in (1, 2)]
    await asyncio.sleep(0)
    first_may_end.set()
    await asyncio.gather(*publishing)
    assert seen == [1, 2]


async def test_a_slow_subject_does_not_hold_up_another(bus: Bus) -> None:
    release = asyncio.Event()
    other_done = asyncio.Event()

    async def handler(event: Envelope) -> None:
        if event.subject == "slow":
            await release.wait()
        else:
            other_done.set()

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    slow = asyncio.create_task(bus.publish(happened(1, "slow")))
    await bus.publish(happened(2, "quick"))
    assert other_done.is_set()
    release.set()
    await slow


async def test_a_failing_handler_leaves_the_event_with_the_publisher(bus: Bus) -> None:
    async def handler(event: Envelope) -> None:
        raise RuntimeError("no")

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    with pytest.raises(Undeliverable):
        await bus.publish(happened(1))


async def test_an_event_that_nobody_asked_for_is_no_failure(bus: Bus) -> None:
    await bus.publish(happened(1))


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("#", "a.b.c", True),
        ("*.b.#", "a.b", True),
        ("a.#.c", "a.x.y.c", True),
        ("a.#.c", "a.x.y", False),
    ],
)
def test_topic_patterns_match_as_in_amqp(pattern: str, key: str, expected: bool) -> None:
    assert matches(pattern, key) is expected


async def test_a_subscription_to_one_subject_hears_of_no_other(bus: Bus) -> None:
    seen: list[object] = []

    async def handler(event: Envelope) -> None:
        seen.append(event.data["number"])

    await bus.subscribe(Subscription("q", ("test.#",), handler, subject="one"))
    await bus.publish(happened(1, "other"))
    await bus.publish(happened(2, "one"))
    assert seen == [2]
