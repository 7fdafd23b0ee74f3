"""The bus of the embedded shape: queues inside one process.

It stores nothing. Durability comes from the outbox: `publish` returns only after every bound
handler has finished, so an event whose consumer died with the process is still unpublished and
comes again after the restart. Nor does it know who will subscribe: whoever composes the process
holds it until all have, and again before the first one leaves.
"""

import asyncio
from dataclasses import dataclass, field

import structlog

from shared.bus.protocol import Subscription, Undeliverable
from shared.events.envelope import Envelope
from shared.metrics import BUS_EVENTS

log = structlog.get_logger(__name__)

PREFETCH = 16


@dataclass(slots=True)
class _Queue:
    subscription: Subscription
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PREFETCH))
    order: dict[str, asyncio.Lock] = field(default_factory=dict)
    open: bool = True


class MemoryBus:
    """At-least-once, in order per subject, `PREFETCH` deliveries at a time per queue."""

    def __init__(self) -> None:
        self._queues: dict[str, list[_Queue]] = {}
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
            # The wire form, so that a payload that cannot travel fails here too.
            await queue.subscription.handler(Envelope.model_validate_json(event.model_dump_json()))
            BUS_EVENTS.labels("consumed", event.type).inc()
        if not lock.locked() and queue.order.get(event.subject) is lock:
            del queue.order[event.subject]

    async def subscribe(self, subscription: Subscription) -> None:
        self._queues.setdefault(subscription.queue, []).append(_Queue(subscription))

    async def unsubscribe(self, queue: str) -> None:
        for member in self._queues.pop(queue, []):
            member.open = False
            for _ in range(PREFETCH):
                await member.slots.acquire()
            for _ in range(PREFETCH):
                member.slots.release()

    async def close(self) -> None:
        for name in list(self._queues):
            await self.unsubscribe(name)
