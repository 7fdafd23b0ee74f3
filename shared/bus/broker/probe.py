"""Whether the bus lives: a message to ourselves that comes back, not a socket that is open."""

import asyncio
import time

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused

from shared.bus.broker.link import BROKEN, Link, close_quietly, was_cancelled
from shared.bus.topology import REPORTS
from shared.ids import new_id

# An answer is good for so long, so that asking often costs nothing.
FRESH_S = 1.0


class Probe:
    """Out over the connection that publishes, back over the one that consumes."""

    def __init__(self, publishing: Link, consuming: Link) -> None:
        self._publishing = publishing
        self._consuming = consuming
        self._turn = asyncio.Lock()
        self._lived_at = float("-inf")
        self._out: AbstractChannel | None = None
        self._home: AbstractChannel | None = None
        self._queue = ""
        self._awaited = ""
        self._back = asyncio.Event()
        self._may_declare = True

    async def alive(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s), self._turn:
                if time.monotonic() - self._lived_at > FRESH_S:
                    await self._round_trip()
                    self._lived_at = time.monotonic()
        except BROKEN:
            return False
        except asyncio.CancelledError:
            if was_cancelled():
                raise
            return False
        return True

    async def _round_trip(self) -> None:
        if self._may_declare:
            try:
                return await self._message_home()
            except ChannelAccessRefused:
                # A node's login makes no queue: it asks both ends for what it knows is there.
                self._may_declare = False
        for link in (self._publishing, self._consuming):
            channel = await link.channel(confirms=False)
            await channel.declare_exchange(REPORTS, passive=True)
            await close_quietly(channel)
        return None

    async def _message_home(self) -> None:
        if self._home is None or self._home.is_closed:
            home = await self._consuming.channel(confirms=False)
            queue = await home.declare_queue(exclusive=True, auto_delete=True)
            await queue.consume(self._come_home, no_ack=True)
            self._home, self._queue = home, queue.name
        if self._out is None or self._out.is_closed:
            self._out = await self._publishing.channel(confirms=True)
        self._awaited = new_id().hex
        self._back.clear()
        message = Message(b"", message_id=self._awaited)
        await self._out.default_exchange.publish(message, self._queue)
        await self._back.wait()

    async def _come_home(self, message: AbstractIncomingMessage) -> None:
        if message.message_id == self._awaited:
            self._back.set()
