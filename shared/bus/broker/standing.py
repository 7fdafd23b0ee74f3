"""A consumer's queue and bindings stand as it declared them; what somebody removed is made again,
and told, since what passed meanwhile is missing in it.

A queue that is gone shows over AMQP. A binding shows in the management API alone: without it, it is
made again all the same, and nobody is told.
"""

import asyncio
from datetime import datetime

import structlog
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from shared.bus.broker.declaring import declare_kept, declare_states, renew_states
from shared.bus.broker.link import Link, close_quietly
from shared.bus.broker.management import Management, Unseen
from shared.bus.protocol import Keeping, Subscription
from shared.bus.topology import binding_keys
from shared.clock import utc_now
from shared.metrics import BUS_REPAIRED_AT, BUS_REPAIRS

log = structlog.get_logger(__name__)

QUEUE = "queue"
# A management API that hangs must not keep anybody from consuming.
LOOK_S = 3.0


class Standing:
    """Of one consumer of a queue that outlives it. management: None where there is none to ask."""

    def __init__(
        self, link: Link, subscription: Subscription, management: Management | None
    ) -> None:
        self._link = link
        self._subscription = subscription
        self._management = management
        self._keys = list(binding_keys(subscription.patterns, subscription.subject))
        # When it was last known to be whole; None before the first time.
        self._whole_at: datetime | None = None
        self._may_make = True
        self._was_unseen = False
        if subscription.keeping is Keeping.everything:
            # From the start, so that the first one shows as a rise.
            for what in (QUEUE, "binding"):
                BUS_REPAIRS.labels(subscription.queue, what)

    async def declare(self, channel: AbstractChannel) -> AbstractQueue:
        """Before consuming begins. Raises whatever a broken channel raises."""
        return await self._make(channel, begins=True)

    async def renew(self, channel: AbstractChannel) -> None:
        """While it is consumed from; as `declare`."""
        await self._make(channel, begins=False)

    async def _make(self, channel: AbstractChannel, *, begins: bool) -> AbstractQueue:
        lost = await self._lost(begins=begins)
        now = utc_now()
        if self._subscription.keeping is Keeping.everything:
            queue = await declare_kept(channel, self._subscription)
        else:
            await self._make_states(begins=begins)
            queue = await channel.get_queue(self._subscription.queue, ensure=False)
        if lost:
            self._tell(lost)
        self._whole_at = now
        return queue

    async def _make_states(self, *, begins: bool) -> None:
        if begins:
            await declare_states(self._link, self._subscription)
        if self._may_make:
            try:
                await renew_states(self._link, self._subscription)
            except ChannelAccessRefused:
                # An agent's login makes nothing.
                self._may_make = False

    async def _lost(self, *, begins: bool) -> list[str]:
        """What stood before and does not: QUEUE, or keys. Raises BROKEN."""
        if self._management is not None:
            try:
                async with asyncio.timeout(LOOK_S):
                    return await self._look(self._management)
            except (Unseen, TimeoutError) as unseen:
                if not self._was_unseen:
                    queue = self._subscription.queue
                    log.warning("bindings_unseen", queue=queue, error=repr(unseen))
                self._was_unseen = True
        is_gone = begins and self._whole_at is not None and not await self._is_there()
        return [QUEUE] if is_gone else []

    async def _look(self, management: Management) -> list[str]:
        queue = self._subscription.queue
        found = await management.bindings(queue)
        self._was_unseen = False
        missing = [key for key in self._keys if key not in found]
        if missing and self._whole_at is None:
            # Since this process began it may be new: the queue, or what this version asks for.
            before = await management.on_record(queue)
            missing = [(exchange, key) for exchange, key in missing if key in before]
        if missing and not found.intersection(self._keys) and not await management.has_queue(queue):
            return [QUEUE]
        return [key for _, key in missing]

    async def _is_there(self) -> bool:
        looking = await self._link.channel(confirms=False)
        try:
            await looking.declare_queue(self._subscription.queue, passive=True)
        except ChannelNotFoundEntity as missing:
            # One whose node is down is not found either, and is there all the same.
            return "no queue" not in str(missing)
        finally:
            await close_quietly(looking)
        return True

    def _tell(self, lost: list[str]) -> None:
        queue = self._subscription.queue
        if self._subscription.keeping is not Keeping.everything:
            # Whole states are told again by themselves.
            log.warning("queue_repaired", queue=queue, lost=lost)
            return
        since = f"{self._whole_at:%Y-%m-%dT%H:%M:%S}" if self._whole_at is not None else "TIME"
        owners = sorted({pattern.partition(".")[0] for pattern in self._subscription.patterns})
        cure = "; ".join(f"chusuan events retell {owner} --since {since}" for owner in owners)
        log.error("queue_repaired", queue=queue, lost=lost, cure=cure)
        BUS_REPAIRS.labels(queue, QUEUE if lost == [QUEUE] else "binding").inc()
        BUS_REPAIRED_AT.labels(queue).set_to_current_time()
