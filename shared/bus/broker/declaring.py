"""Exchanges, queues and bindings, made over AMQP by whoever may."""

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from shared.bus.broker.link import Link, close_quietly
from shared.bus.protocol import Keeping, Subscription
from shared.bus.topology import (
    DEAD,
    EXCHANGES,
    KNOWN,
    DeclaredQueue,
    binding_keys,
    dead_queue,
    declared,
    known_queue,
)


async def declare_exchanges(channel: AbstractChannel) -> None:
    """Repeatable, as all here. Raises ChannelAccessRefused, which closes the channel."""
    for name in EXCHANGES:
        await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
    await _declare(channel, known_queue())


async def declare_kept(channel: AbstractChannel, subscription: Subscription) -> AbstractQueue:
    """A queue that keeps everything, with its place for dead letters."""
    await declare_exchanges(channel)
    dead = await _declare(channel, dead_queue(subscription.queue))
    await dead.bind(DEAD, subscription.queue)
    queue = await _declare(channel, declared(subscription.queue, subscription.keeping))
    known = await channel.get_queue(KNOWN, ensure=False)
    for exchange, key in binding_keys(subscription.patterns, subscription.subject):
        await queue.bind(exchange, key)
        # The argument keeps apart two queues that ask for the same.
        await known.bind(KNOWN, key, arguments={"queue": subscription.queue})
    return queue


async def declare_states(link: Link, subscription: Subscription) -> None:
    """Looks first: an agent finds its queue made, and may not make it."""
    looking = await link.channel(confirms=False)
    try:
        await looking.declare_queue(subscription.queue, passive=True)
    except ChannelNotFoundEntity:
        pass
    else:
        return
    finally:
        await close_quietly(looking)
    await renew_states(link, subscription)


async def renew_states(link: Link, subscription: Subscription) -> None:
    """Whatever is there. Raises ChannelAccessRefused for an agent's login."""
    making = await link.channel(confirms=False)
    try:
        await declare_exchanges(making)
        queue = await _declare(making, declared(subscription.queue, subscription.keeping))
        await _bind(queue, subscription)
    finally:
        await close_quietly(making)


async def declare_passing(
    channel: AbstractChannel, subscription: Subscription, name: str
) -> AbstractQueue:
    """Ends with this connection; each consumer has its own."""
    await declare_exchanges(channel)
    limits = declared(name, Keeping.nothing).arguments
    queue = await channel.declare_queue(
        name, exclusive=True, auto_delete=True, arguments=dict(limits)
    )
    await _bind(queue, subscription)
    return queue


async def _declare(channel: AbstractChannel, queue: DeclaredQueue) -> AbstractQueue:
    return await channel.declare_queue(
        queue.name, durable=queue.durable, arguments=dict(queue.arguments)
    )


async def _bind(queue: AbstractQueue, subscription: Subscription) -> None:
    for exchange, key in binding_keys(subscription.patterns, subscription.subject):
        await queue.bind(exchange, key)
