"""Keeps asking the bus for a queue: an agent without contact still keeps its containers."""

import asyncio

import structlog

from shared.bus import Bus, Subscription

log = structlog.get_logger(__name__)

AWAY_S = 5.0
REFUSED_S = 60.0
# What AMQP brokers answer to a login that they do not know, or that may not read the queue.
REFUSALS = ("ACCESS_REFUSED", "ACCESS-REFUSED", "NOT_ALLOWED", "authentication", "NOT_FOUND")


async def subscribe_patiently(
    bus: Bus, subscription: Subscription, *, away_s: float = AWAY_S, refused_s: float = REFUSED_S
) -> None:
    """Returns when it is subscribed. The log says what keeps it from that."""
    while True:
        try:
            return await bus.subscribe(subscription)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            is_refused = any(mark.lower() in words.lower() for mark in REFUSALS)
        if is_refused:
            log.error(
                "bus_refused",
                queue=subscription.queue,
                error=words,
                cure="this node was revoked or removed; containers go on until their leases end."
                " An operator makes a new invitation: chusuan nodes invite",
            )
        else:
            log.warning("bus_away", queue=subscription.queue, error=words)
        await asyncio.sleep(refused_s if is_refused else away_s)
