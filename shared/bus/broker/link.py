"""One connection to the broker that comes back by itself.

Not aio-pika's robust one: its consumers may stay mute after a stuck reconnect. Here nothing is
restored; whoever needs a channel or a consumer makes it anew on the new connection.
"""

import asyncio
import contextlib
import logging
import random

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

log = structlog.get_logger(__name__)
# It tells each lost connection several times, with tracebacks; what counts is told here.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)

HEARTBEAT_S = 10
CONNECT_S = 10.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

# A closing connection or channel raises AMQPError, OSError, RuntimeError or a bare Exception in
# whoever waits on it, or cancels them (`was_cancelled`).
BROKEN = Exception


class Link:
    """name: told to the broker, for whoever lists its connections."""

    def __init__(self, url: str, name: str) -> None:
        address = URL(url)
        self._url = address.update_query(
            {"heartbeat": address.query.get("heartbeat", str(HEARTBEAT_S)), "name": name}
        )
        self._shown = f"{address.host}:{address.port}"
        self._connection: AbstractConnection | None = None
        self._open = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    async def opened(self) -> AbstractConnection:
        """Waits for it."""
        while True:
            await self._open.wait()
            if self._connection is not None:
                return self._connection

    async def channel(self, *, confirms: bool) -> AbstractChannel:
        """On the connection of now; waits for one. Raises BROKEN."""
        connection = await self.opened()
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        return channel

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = 0.0
        while True:
            try:
                connection = await aio_pika.connect(self._url, timeout=CONNECT_S)
            except BROKEN as error:
                if not pause_s:
                    log.warning("broker_unreachable", broker=self._shown, error=repr(error))
                pause_s = min(max(pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            else:
                pause_s = 0.0
                await self._serve(connection)
            # Jitter: hundreds of agents come back after the same broken broker.
            await asyncio.sleep(random.uniform(0.5, 1) * max(pause_s, FIRST_PAUSE_S))  # noqa: S311

    async def _serve(self, connection: AbstractConnection) -> None:
        """Until it ends."""
        self._connection = connection
        self._open.set()
        try:
            if connection.transport is not None:
                await asyncio.wait([connection.transport.connection.closing])
            log.warning("broker_connection_lost", broker=self._shown)
        finally:
            self._open.clear()
            self._connection = None
            await close_quietly(connection)


async def close_quietly(resource: AbstractConnection | AbstractChannel) -> None:
    with contextlib.suppress(BROKEN):
        async with asyncio.timeout(CONNECT_S):
            await resource.close()


def was_cancelled() -> bool:
    """Whether a CancelledError is for this task, and not a dying channel's way to say so."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
