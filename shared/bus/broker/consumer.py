"""Consuming one queue: again after every loss, in order per subject, never giving up an event.

A delivery whose handler raises stays here and is tried again with growing delay, since each return
to a quorum queue counts towards its delivery limit. Events of other subjects go on beside it. After
`HOLD_S` it goes back if others have succeeded meanwhile: then the fault is its own, and the limit
ends it among the dead letters. If nothing succeeds the fault is ours (the database is away): all
deliveries go back once, and the one event is tried from memory until it succeeds or `OUTAGE_S` is
over; the handler is safe to repeat. So an outage counts once in three quarters of an hour.

A handler that kills the process makes the broker return everything that was in flight. So a
consumer of a queue with a backlog begins with one delivery at a time, and widens when that was none
that returned before, or one that merely fails: a killer dies alone, and its neighbours keep their
counts low.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel, AbstractQueue
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused

from shared.bus.broker.declaring import declare_passing
from shared.bus.broker.delivery import (
    Delivery,
    Reception,
    Unreadable,
    read,
    refuse,
    returns,
    tag_of,
)
from shared.bus.broker.link import BROKEN, Link, close_quietly, was_cancelled
from shared.bus.broker.management import Management
from shared.bus.broker.settling import Settling
from shared.bus.broker.standing import Standing
from shared.bus.protocol import Keeping, Subscription
from shared.ids import new_id

log = structlog.get_logger(__name__)

# In flight per copy of a service: enough to fill a few transactions, few enough that copies share
# a backlog. Across copies an event may overtake an earlier one of its subject; versions tell.
PREFETCH = {
    Keeping.everything: 200,
    # What is passed over is told again, so whoever takes states may be slow with one subject, and
    # must not keep the others waiting for it.
    Keeping.states: 500,
    Keeping.lately: 16,
    Keeping.nothing: 200,
}
SUSPECT_RETURNS = 2
# Well under the broker's consumer_timeout (30 min unless configured).
HOLD_S = 900.0
OUTAGE_S = 1800.0
LONGEST_DELAY_S = 5.0
RENEW_S = 30.0
PAUSE_S = 0.5
RPC_S = 10.0


class Consumer:
    """ready: what is published from now on will arrive. was_ready: once; a kept queue is there
    ever after, and made again where somebody removes it."""

    def __init__(
        self, link: Link, subscription: Subscription, management: Management | None = None
    ) -> None:
        self.ready = asyncio.Event()
        self.was_ready = False
        self._link = link
        self._subscription = subscription
        self._standing = Standing(link, subscription, management)
        self._lanes: dict[str, deque[Delivery]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._reception: Reception | None = None
        self._succeeded_at = 0.0
        self._stopping = False
        self._refused = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._link.opened()
            try:
                await self._consume()
            except ChannelAccessRefused as refused:
                # An agent's queue and right are made when its node is admitted: a moment later.
                if not self._refused:
                    log.info("queue_refused", queue=self._subscription.queue, error=repr(refused))
                self._refused = True
            except BROKEN as error:
                log.warning("queue_lost", queue=self._subscription.queue, error=repr(error))
            except asyncio.CancelledError:
                if was_cancelled():
                    raise
            self.ready.clear()
            await asyncio.sleep(PAUSE_S)

    async def stop(self) -> None:
        """Waits for the handlers that are running; the rest goes back."""
        self._stopping = True
        if self._reception is not None:
            self._reception.over = True
        while self._workers:
            await asyncio.wait(self._workers)

    async def _consume(self) -> None:
        """Until the channel or the queue is lost. Raises BROKEN."""
        async with asyncio.timeout(RPC_S):
            channel = await self._link.channel(confirms=False)
        line = await channel.get_underlay_channel()
        reception = Reception(line, Settling(line))
        try:
            async with asyncio.timeout(RPC_S):
                queue, backlog = await self._declare(channel)
            await self._receive(reception, channel, queue.name, cautious=backlog)
        finally:
            reception.over = True
            await reception.settling.flush()
            await close_quietly(channel)
        if reception.failing is not None:
            self.ready.clear()
            await self._until_it_succeeds(reception)

    async def _declare(self, channel: AbstractChannel) -> tuple[AbstractQueue, bool]:
        """Also: whether what waits there should be taken with care."""
        subscription = self._subscription
        match subscription.keeping:
            case Keeping.everything:
                queue = await self._standing.declare(channel)
                return queue, bool(queue.declaration_result.message_count)
            case Keeping.states | Keeping.lately:
                return await self._standing.declare(channel), False
            case Keeping.nothing:
                name = f"{subscription.queue}.{new_id().hex}"
                return await declare_passing(channel, subscription, name), False

    async def _receive(
        self, reception: Reception, channel: AbstractChannel, queue: str, cautious: bool
    ) -> None:
        async def take(message: DeliveredMessage) -> None:
            await self._take(reception, message)

        line = reception.channel
        closing = line.closing
        line.on_consumer_cancel_callbacks.add(lambda _: reception.gone.set())
        prefetch = PREFETCH[self._subscription.keeping]
        async with asyncio.timeout(RPC_S):
            await line.basic_qos(prefetch_count=1 if cautious else prefetch)
            begun = await line.basic_consume(queue, take)
        self._reception = reception
        self._refused = False
        self.ready.set()
        self.was_ready = True
        if cautious:
            await _first(reception.widen, reception.gone, closing)
            if reception.widen.is_set():
                # The new size holds for consumers that begin after it.
                async with asyncio.timeout(RPC_S):
                    await line.basic_cancel(begun.consumer_tag or "")
                    await line.basic_qos(prefetch_count=prefetch)
                    await line.basic_consume(queue, take)
        while not reception.gone.is_set() and not closing.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await _first(reception.outage, reception.gone, closing)
                return
            async with asyncio.timeout(RPC_S):
                await self._renew(channel)

    async def _renew(self, channel: AbstractChannel) -> None:
        """A queue or binding that somebody removed is back within RENEW_S and what it takes."""
        if self._subscription.keeping is not Keeping.nothing:
            await self._standing.renew(channel)

    async def _take(self, reception: Reception, message: DeliveredMessage) -> None:
        """No await before the event stands in its lane: deliveries keep their order."""
        reception.settling.arrived(tag_of(message))
        if returns(message) < SUSPECT_RETURNS:
            reception.widen.set()
        try:
            event = read(message)
        except Unreadable as unreadable:
            queue = self._subscription.queue
            log.error("event_unreadable", queue=queue, reason=str(unreadable))
            return await refuse(reception, message)
        lane = self._lanes.get(event.subject)
        delivery = Delivery(event, message, reception)
        if lane is not None:
            lane.append(delivery)
            return None
        self._lanes[event.subject] = deque([delivery])
        worker = asyncio.create_task(self._work(event.subject))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)
        return None

    async def _work(self, subject: str) -> None:
        lane = self._lanes[subject]
        try:
            while lane:
                await self._handle(lane[0])
                lane.popleft()
        finally:
            del self._lanes[subject]

    async def _handle(self, delivery: Delivery) -> None:
        began = time.monotonic()
        for delay_s in _delays():
            if self._stopping or delivery.is_stale:
                return None
            try:
                await self._subscription.handler(delivery.event)
            except Exception as error:
                self._tell_failure(delivery, error)
                delivery.reception.widen.set()
            else:
                self._succeeded_at = time.monotonic()
                return delivery.done()
            if time.monotonic() - began > HOLD_S:
                if self._succeeded_at >= began:
                    return await delivery.go_back()
                delivery.reception.failing = delivery.event
                return delivery.reception.outage.set()
            await asyncio.sleep(delay_s)
        return None

    async def _until_it_succeeds(self, reception: Reception) -> None:
        event = reception.failing
        if event is None:
            return
        log.error("consumer_paused", queue=self._subscription.queue, event_type=event.type)
        until = time.monotonic() + OUTAGE_S
        for delay_s in _delays():
            if self._stopping or time.monotonic() > until:
                break
            try:
                await self._subscription.handler(event)
            except Exception:
                await asyncio.sleep(delay_s)
            else:
                break
        log.warning("consumer_resumed", queue=self._subscription.queue)

    def _tell_failure(self, delivery: Delivery, error: Exception) -> None:
        log.warning(
            "event_handler_failed",
            queue=self._subscription.queue,
            event_type=delivery.event.type,
            event_id=str(delivery.event.id),
            error=repr(error),
        )


def _delays() -> Iterator[float]:
    delay_s = 0.1
    while True:
        yield delay_s
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)


async def _first(one: asyncio.Event, other: asyncio.Event, closing: asyncio.Future[None]) -> None:
    """Returns when one of them has happened."""
    waiting = [asyncio.ensure_future(each.wait()) for each in (one, other)]
    try:
        everything: list[asyncio.Future[Any]] = [*waiting, closing]
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
