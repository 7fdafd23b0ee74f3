"""The bus of the split shape: RabbitMQ, one quorum queue per consumer that must miss nothing.

Two connections: a broker that is short of memory or disk stops reading from those that publish,
and acknowledgements must still get through. Both come back by themselves, and so do consumers.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from shared.bus.broker.consumer import Consumer
from shared.bus.broker.link import Link
from shared.bus.broker.management import Management
from shared.bus.broker.probe import Probe
from shared.bus.broker.publisher import Publisher
from shared.bus.protocol import Keeping, Subscription, Undeliverable
from shared.events.envelope import Envelope

# While the broker is away a process still starts: its subscriptions come to life later.
SUBSCRIBE_S = 5.0
STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class _Consuming:
    consumer: Consumer
    keeping: Keeping
    task: asyncio.Task[None]


class AmqpBus:
    """url: `amqp://LOGIN:PASSWORD@HOST:PORT/VHOST`, or `amqps://…?cafile=/path/of/ca.pem`.
    management_url: `http://HOST:15672`, where the same login may look; without it a binding that
    somebody removed is made again and not told."""

    def __init__(self, url: str, management_url: str = "") -> None:
        self._publishing = Link(url, "publishing")
        self._consuming = Link(url, "consuming")
        self._management = Management(url, management_url) if management_url else None
        self._publisher = Publisher(self._publishing, url)
        self._probe = Probe(self._publishing, self._consuming)
        self._queues: dict[str, list[_Consuming]] = {}
        self._links: list[asyncio.Task[None]] = []
        self._waits_until = 0.0

    async def publish(self, event: Envelope) -> None:
        """Raises Undeliverable within `shared.bus.broker.publisher.PUBLISH_S`, and while our own
        queues have yet to be made for the first time: what is told before is not in them."""
        self._connect()
        if not self._are_queues_made():
            raise Undeliverable("queues of this process are not made yet")
        await self._publisher.publish(event)

    def _are_queues_made(self) -> bool:
        return all(
            one.consumer.was_ready or one.keeping is not Keeping.everything
            for several in self._queues.values()
            for one in several
        )

    async def alive(self, within_s: float) -> bool:
        self._connect()
        return await self._probe.alive(within_s)

    async def subscribe(self, subscription: Subscription) -> None:
        """Where broker or queue is away it goes on trying, and returns all the same."""
        self._connect()
        consumer = Consumer(self._consuming, subscription, self._management)
        task = asyncio.create_task(consumer.run())
        self._queues.setdefault(subscription.queue, []).append(
            _Consuming(consumer, subscription.keeping, task)
        )
        if self._consuming.is_open:
            self._waits_until = time.monotonic() + SUBSCRIBE_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(self._waits_until - time.monotonic(), 0)):
                await consumer.ready.wait()

    async def unsubscribe(self, queue: str) -> None:
        for consuming in self._queues.pop(queue, []):
            await consuming.consumer.stop()
            await _end(consuming.task)

    async def close(self) -> None:
        for name in list(self._queues):
            await self.unsubscribe(name)
        for task in self._links:
            await _end(task)
        self._links.clear()

    def _connect(self) -> None:
        """Connections begin with the first use, since that is where a loop runs."""
        if not self._links:
            self._waits_until = time.monotonic() + SUBSCRIBE_S
            links = (self._publishing, self._consuming)
            self._links = [asyncio.create_task(link.run()) for link in links]


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=STOP_S)
