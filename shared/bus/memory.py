"""The bus of the embedded shape: queues inside one process.

It stores nothing. Durability comes from the outbox: `publish` returns only after every bound
handler has finished, so an event whose consumer died with the process is still unpublished and
comes again after the restart. Nor does it know who will subscribe: whoever composes the process
holds it until all have, and again before the first one leaves.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import structlog

from shared.bus.protocol import Keeping, Subscription, Undeliverable
from shared.events.envelope import Envelope
from shared.metrics import BUS_EVENTS

log = structlog.get_logger(__name__)

PREFETCH = 16
# What waits for a consumer of `Keeping.nothing` that is not quick enough; then the oldest go.
MOST_UNKEPT = 1000


@dataclass(slots=True)
class _Queue:
    subscription: Subscription
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PREFETCH))
    order: dict[str, asyncio.Lock] = field(default_factory=dict)
    open: bool = True


class _Unkept:
    """A queue that keeps nothing: nobody waits for its consumer, nor fails by it."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._waiting: deque[Envelope] = deque(maxlen=MOST_UNKEPT)
        self._filled = asyncio.Event()
        self._open = True
        self._handling = asyncio.create_task(self._handle())

    def offer(self, event: Envelope) -> None:
        self._waiting.append(event)
        self._filled.set()

    async def _handle(self) -> None:
        while self._open:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting and self._open:
                event = self._waiting.popleft()
                try:
                    await self.subscription.handler(_as_it_travels(event))
                except Exception as error:
                    queue = self.subscription.queue
                    log.warning("event_failed", queue=queue, event_type=event.type, exc_info=error)

    async def end(self) -> None:
        """Waits for the handler that is running."""
        self._open = False
        self._filled.set()
        await self._handling


class MemoryBus:
    """At-least-once, in order per subject, `PREFETCH` deliveries at a time per queue."""

    def __init__(self) -> None:
        self._queues: dict[str, list[_Queue]] = {}
        self._unkept: dict[str, _Unkept] = {}
        self._turn: dict[str, int] = {}
        self._flows = asyncio.Event()
        self._flows.set()

    def hold(self) -> None:
        """What is published from now on waits."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def publish(self, event: Envelope) -> None:
        await self._flows.wait()
        deliveries = [
            self._deliver(name, event)
            for name, members in list(self._queues.items())
            if members[0].subscription.wants(event)
        ]
        for unkept in self._unkept.values():
            if unkept.subscription.wants(event):
                unkept.offer(event)
        results = await asyncio.gather(*deliveries, return_exceptions=True)
        for result in results:
            if isinstance(result, asyncio.CancelledError):
                raise result
        failures = [r for r in results if isinstance(r, BaseException)]
        if failures:
            raise Undeliverable(f"{event.type} {event.id}: {failures[0]!r}")
        BUS_EVENTS.labels("published", event.type).inc()

    async def alive(self, within_s: float) -> bool:
        return True

    async def _deliver(self, name: str, event: Envelope) -> None:
        members = self._queues.get(name)
        if not members:
            raise Undeliverable(name)
        turn = self._turn[name] = (self._turn.get(name, -1) + 1) % len(members)
        queue = members[turn]
        lock = queue.order.setdefault(event.subject, asyncio.Lock())
        async with queue.slots, lock:
            if not queue.open:
                raise Undeliverable(name)
            await queue.subscription.handler(_as_it_travels(event))
            BUS_EVENTS.labels("consumed", event.type).inc()
        if not lock.locked() and queue.order.get(event.subject) is lock:
            del queue.order[event.subject]

    async def subscribe(self, subscription: Subscription) -> None:
        if subscription.keeping is not Keeping.nothing:
            self._queues.setdefault(subscription.queue, []).append(_Queue(subscription))
        elif subscription.queue in self._unkept:
            raise ValueError(f"{subscription.queue} has its one consumer already")
        else:
            self._unkept[subscription.queue] = _Unkept(subscription)

    async def unsubscribe(self, queue: str) -> None:
        if queue in self._unkept:
            await self._unkept.pop(queue).end()
        for member in self._queues.pop(queue, []):
            member.open = False
            for _ in range(PREFETCH):
                await member.slots.acquire()
            for _ in range(PREFETCH):
                member.slots.release()

    async def close(self) -> None:
        for name in [*self._queues, *self._unkept]:
            await self.unsubscribe(name)


def _as_it_travels(event: Envelope) -> Envelope:
    """The wire form, so that a payload that cannot travel fails here too."""
    return Envelope.model_validate_json(event.model_dump_json())
