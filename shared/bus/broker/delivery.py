"""One channel's worth of deliveries, and what may still be said about each of them.

On aiormq, on which aio-pika stands: its message objects cost as much as all else done here.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

from aiormq.abc import AbstractChannel, DeliveredMessage
from pydantic import ValidationError

from shared.bus.broker.link import BROKEN
from shared.bus.broker.settling import Settling
from shared.bus.topology import REPORTS, key_of
from shared.events.envelope import Envelope


class Unreadable(Exception):
    pass


def read(message: DeliveredMessage) -> Envelope:
    """Raises Unreadable, also for an event that says it is another than its key says."""
    try:
        event = Envelope.model_validate_json(message.body)
    except ValidationError as error:
        raise Unreadable(str(error)[:500]) from error
    if key_of(event) != message.routing_key:
        raise Unreadable(f"{event.type} of {event.subject!r} came as {message.routing_key!r}")
    if message.exchange == REPORTS:
        # Who logged in, not who the message says it is from; the broker compared the two.
        return event.model_copy(update={"source": message.header.properties.user_id or ""})
    return event


def returns(message: DeliveredMessage) -> int:
    """How often it went back to its (quorum) queue."""
    count = (message.header.properties.headers or {}).get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0


@dataclass(eq=False, slots=True)
class Reception:
    """One consumer on one channel.

    over: nothing that waits here is to be begun any more; it comes again to someone.
    widen: the deliveries so far do not kill.
    failing: an event whose handler fails while nothing else succeeds.
    """

    channel: AbstractChannel
    settling: Settling
    over: bool = False
    widen: asyncio.Event = field(default_factory=asyncio.Event)
    outage: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    failing: Envelope | None = None


@dataclass(eq=False, slots=True)
class Delivery:
    event: Envelope
    message: DeliveredMessage
    reception: Reception

    @property
    def is_stale(self) -> bool:
        return self.reception.over or self.reception.channel.is_closed

    def done(self) -> None:
        self.reception.settling.finished(tag_of(self.message))

    async def go_back(self) -> None:
        tag = tag_of(self.message)
        self.reception.settling.settled(tag)
        with contextlib.suppress(BROKEN):
            await self.message.channel.basic_nack(tag, requeue=True)


async def refuse(reception: Reception, message: DeliveredMessage) -> None:
    """To the queue's dead letters, where it has such."""
    tag = tag_of(message)
    reception.settling.settled(tag)
    with contextlib.suppress(BROKEN):
        await message.channel.basic_reject(tag, requeue=False)


def tag_of(message: DeliveredMessage) -> int:
    tag = message.delivery_tag
    if tag is None:
        raise Unreadable("a delivery without a tag")
    return tag
