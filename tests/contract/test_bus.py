"""What every bus must do; each implementation joins by a row in `BUSES`.

What a fault of the broker does to the bus on RabbitMQ is in `test_bus_on_broker.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import ClassVar
from uuid import UUID

import pytest

from shared.bus import Bus, Keeping, Subscription, Undeliverable, matches, open_bus
from shared.events import Envelope, Payload
from shared.events.agent import ImagesWanted
from shared.ids import new_id

BUSES = ["memory", "amqp"]
WITHIN_S = 20.0


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int


def happened(number: int, subject: str = "one") -> Envelope:
    return Envelope.wrap(Happened(number=number), subject=subject)


class Heard:
    """A handler that remembers, and a way to wait until it has heard enough."""

    def __init__(self) -> None:
        self.numbers: list[object] = []
        self._news = asyncio.Event()

    async def take(self, event: Envelope) -> None:
        self.numbers.append(event.data["number"])
        self._news.set()

    async def until(self, enough: Callable[[list[object]], bool]) -> list[object]:
        async with asyncio.timeout(WITHIN_S):
            while not enough(self.numbers):
                self._news.clear()
                await self._news.wait()
        return self.numbers


@pytest.fixture(params=BUSES)
def bus_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://{new_id().hex}"
    url: str = request.getfixturevalue("broker_url")
    return url


@pytest.fixture
async def bus(bus_url: str) -> AsyncIterator[Bus]:
    bus = open_bus(bus_url)
    yield bus
    await bus.close()


async def test_every_queue_gets_its_own_copy(bus: Bus) -> None:
    heard = {"a": Heard(), "b": Heard()}
    for queue, listener in heard.items():
        await bus.subscribe(Subscription(queue, ("test.thing.*",), listener.take))
    await bus.publish(happened(1))
    for listener in heard.values():
        assert await listener.until(bool) == [1]


async def test_events_of_one_subject_are_handled_one_at_a_time_in_order(bus: Bus) -> None:
    heard, at_once = Heard(), []
    working: set[object] = set()

    async def handler(event: Envelope) -> None:
        working.add(event.id)
        at_once.append(len(working))
        await asyncio.sleep(0)
        await heard.take(event)
        working.discard(event.id)

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    publishing = [asyncio.create_task(bus.publish(happened(n))) for n in range(50)]
    await asyncio.gather(*publishing)
    assert await heard.until(lambda seen: len(seen) == 50) == list(range(50))
    assert set(at_once) == {1}


async def test_a_slow_subject_does_not_hold_up_another(bus: Bus) -> None:
    release = asyncio.Event()
    heard = Heard()

    async def handler(event: Envelope) -> None:
        if event.subject == "slow":
            await release.wait()
        await heard.take(event)

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    slow = asyncio.create_task(bus.publish(happened(1, "slow")))
    await bus.publish(happened(2, "quick"))
    assert await heard.until(bool) == [2]
    release.set()
    await slow
    assert await heard.until(lambda seen: len(seen) == 2) == [2, 1]


async def test_what_a_handler_refused_comes_again_and_holds_up_no_neighbour(bus: Bus) -> None:
    heard = Heard()
    tries = 0

    async def handler(event: Envelope) -> None:
        nonlocal tries
        if event.subject == "hard":
            tries += 1
            if tries < 3:
                raise RuntimeError("not yet")
        await heard.take(event)

    async def publish_until_taken(event: Envelope) -> None:
        while True:
            try:
                return await bus.publish(event)
            except Undeliverable:
                await asyncio.sleep(0)

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    hard = asyncio.create_task(publish_until_taken(happened(1, "hard")))
    await publish_until_taken(happened(2, "easy"))
    await heard.until(lambda seen: 1 in seen and 2 in seen)
    await hard
    assert tries == 3


async def test_an_event_that_nobody_asked_for_is_no_failure(bus: Bus) -> None:
    await bus.publish(happened(1))


async def test_an_event_that_another_asked_for_differently_is_no_failure(bus: Bus) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.other.*",), heard.take))
    await bus.publish(happened(1))
    assert heard.numbers == []


async def test_two_consumers_of_one_queue_share_the_work(bus: Bus) -> None:
    first, second = Heard(), Heard()
    for listener in (first, second):
        await bus.subscribe(Subscription("q", ("test.#",), listener.take))
    count = 40
    for number in range(count):
        await bus.publish(happened(number, str(number)))
    async with asyncio.timeout(WITHIN_S):
        while len(first.numbers) + len(second.numbers) < count:
            await asyncio.sleep(0.01)
    assert first.numbers
    assert second.numbers
    assert sorted([*first.numbers, *second.numbers], key=str) == sorted(range(count), key=str)


async def test_after_unsubscribing_nothing_arrives_and_what_ran_has_ended(bus: Bus) -> None:
    began, may_end, ended = asyncio.Event(), asyncio.Event(), []

    async def handler(event: Envelope) -> None:
        began.set()
        await may_end.wait()
        ended.append(event.data["number"])

    await bus.subscribe(Subscription("q", ("test.#",), handler))
    publishing = asyncio.create_task(bus.publish(happened(1)))
    await began.wait()
    leaving = asyncio.create_task(bus.unsubscribe("q"))
    await asyncio.sleep(0)
    assert not leaving.done()
    may_end.set()
    await asyncio.gather(leaving, publishing)
    assert ended == [1]


async def test_a_subject_may_hold_any_text(bus: Bus) -> None:
    heard = Heard()
    subject = "A100-SXM4.80 *#%/显卡" * 20
    await bus.subscribe(Subscription("all", ("test.thing.happened",), heard.take))
    await bus.subscribe(Subscription("its", ("test.thing.*",), heard.take, subject=subject))
    await bus.publish(happened(1, subject))
    assert await heard.until(lambda seen: len(seen) == 2) == [1, 1]


async def test_an_order_reaches_the_queue_of_its_subject(bus: Bus) -> None:
    arrived: list[Envelope] = []
    came = asyncio.Event()

    async def handler(event: Envelope) -> None:
        arrived.append(event)
        came.set()

    queue = Subscription("orders", (ImagesWanted.type,), handler, keeping=Keeping.states)
    await bus.subscribe(queue)
    order = Envelope.wrap(ImagesWanted(images=[]), subject=UUID(int=1))
    await bus.publish(order)
    async with asyncio.timeout(WITHIN_S):
        await came.wait()
    assert arrived == [order]


async def test_a_queue_that_keeps_nothing_hears_while_it_is_there(bus: Bus) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("#",), heard.take, keeping=Keeping.nothing))
    await bus.publish(happened(1))
    assert await heard.until(bool) == [1]
    await bus.unsubscribe("q")
    await bus.publish(happened(2))


async def test_a_bus_that_carries_is_alive(bus: Bus) -> None:
    assert await bus.alive(within_s=WITHIN_S)


async def test_a_subscription_to_one_subject_hears_of_no_other(bus: Bus) -> None:
    heard = Heard()
    await bus.subscribe(Subscription("q", ("test.#",), heard.take, subject="one"))
    await bus.publish(happened(1, "other"))
    await bus.publish(happened(2, "one"))
    assert await heard.until(bool) == [2]


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
