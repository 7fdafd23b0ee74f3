"""Publishing: every event is confirmed by every queue that wants it, or `Undeliverable` is raised.

It never hangs: a blocked broker, a lost connection and a missing answer all end in `Undeliverable`
within `PUBLISH_S`. Then the event may have arrived all the same; publishing it again is safe.
"""

import asyncio

from aio_pika import DeliveryMode
from aio_pika.exceptions import ChannelNotFoundEntity, PublishError
from aiormq import spec
from aiormq.abc import AbstractChannel
from yarl import URL

from shared.bus.broker.declaring import declare_exchanges
from shared.bus.broker.link import BROKEN, Link, close_quietly, was_cancelled
from shared.bus.protocol import Undeliverable
from shared.bus.routes import Route, route_of
from shared.bus.topology import KNOWN, exchange_of, key_of
from shared.events.envelope import Envelope

PUBLISH_S = 10.0
# How long a publish waits for a connection that is away; the caller's own retry does the rest.
AWAY_S = 1.0
# An event's subject names its channel, so that those of one subject leave in the order of the
# calls. Several, since the broker works on the channels of a connection side by side.
CHANNELS = 4


class Publisher:
    def __init__(self, link: Link, url: str) -> None:
        self._link = link
        self._login = URL(url).user or ""
        self._channels: list[AbstractChannel | None] = [None] * CHANNELS
        self._opening = [asyncio.Lock() for _ in range(CHANNELS)]

    async def publish(self, event: Envelope) -> None:
        """Raises Undeliverable."""
        try:
            if not self._link.is_open:
                async with asyncio.timeout(AWAY_S):
                    await self._link.opened()
            async with asyncio.timeout(PUBLISH_S):
                await self._publish(event)
        except PublishError as returned:
            raise Undeliverable(f"{event.type} {event.id}: no queue takes it") from returned
        except BROKEN as error:
            raise Undeliverable(f"{event.type} {event.id}: {error!r}") from error
        except asyncio.CancelledError as error:
            if was_cancelled():
                raise
            raise Undeliverable(f"{event.type} {event.id}: the channel closed") from error

    async def _publish(self, event: Envelope) -> None:
        slot = hash(event.subject) % CHANNELS
        try:
            await self._route(slot, event)
        except ChannelNotFoundEntity:
            # The first ever to publish here, and perhaps one who may not make what is missing.
            await self._declare()
            await self._route(slot, event)

    async def _route(self, slot: int, event: Envelope) -> None:
        key = key_of(event)
        try:
            body = event.model_dump_json().encode()
            await self._send(slot, exchange_of(event.type), key, body, self._properties(event))
        except PublishError:
            if route_of(event.type) is not Route.facts or await self._is_asked_for(slot, key):
                raise

    async def _send(
        self, slot: int, exchange: str, key: str, body: bytes, properties: spec.Basic.Properties
    ) -> None:
        channel = await self._channel(slot)
        # It waits for the socket too: retries must not pile up before a broker that reads no more.
        await channel.basic_publish(
            body, exchange=exchange, routing_key=key, properties=properties, mandatory=True
        )

    async def _is_asked_for(self, slot: int, key: str) -> bool:
        try:
            await self._send(slot, KNOWN, key, b"", spec.Basic.Properties())
        except PublishError:
            return False
        return True

    async def _declare(self) -> None:
        channel = await self._link.channel(confirms=False)
        try:
            await declare_exchanges(channel)
        finally:
            await close_quietly(channel)

    async def _channel(self, slot: int) -> AbstractChannel:
        channel = self._channels[slot]
        if channel is not None and not channel.is_closed:
            return channel
        async with self._opening[slot]:
            channel = self._channels[slot]
            if channel is None or channel.is_closed:
                opened = await self._link.channel(confirms=True)
                channel = self._channels[slot] = await opened.get_underlay_channel()
        return channel

    def _properties(self, event: Envelope) -> spec.Basic.Properties:
        """Facts are on the broker's disk when confirmed. States are told again and again, and hold
        secrets: they stay in its memory. An agent's report carries its login, which the broker
        checks."""
        route = route_of(event.type)
        kept = route is Route.facts
        return spec.Basic.Properties(
            content_type="application/cloudevents+json",
            delivery_mode=DeliveryMode.PERSISTENT if kept else DeliveryMode.NOT_PERSISTENT,
            message_id=event.id.hex,
            message_type=event.type,
            user_id=self._login if route is Route.reports else None,
        )
