"""Acknowledgements of one channel, together.

Handlers that share a transaction end together; one frame then acknowledges all up to a tag. What
is finished behind one that is not is acknowledged by itself. What was not acknowledged when the
process dies comes again, which handlers bear.
"""

import asyncio
import contextlib
from itertools import takewhile

from aiormq.abc import AbstractChannel

from shared.bus.broker.link import BROKEN

# How long a finished delivery may wait for those before it.
TOGETHER_S = 0.01


class Settling:
    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        # In the order of their arrival, which is that of their numbers.
        self._open: dict[int, None] = {}
        self._finished: set[int] = set()
        self._flushing: asyncio.Task[None] | None = None

    def arrived(self, tag: int) -> None:
        self._open[tag] = None

    def settled(self, tag: int) -> None:
        """It was refused or went back."""
        self._open.pop(tag, None)

    def finished(self, tag: int) -> None:
        """To be acknowledged."""
        self._finished.add(tag)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        first = list(takewhile(self._finished.__contains__, self._open))
        single = self._finished.difference(first)
        for tag in self._finished:
            self._open.pop(tag, None)
        self._finished = set()
        with contextlib.suppress(BROKEN):
            if first:
                await self._channel.basic_ack(first[-1], multiple=True, wait=False)
            for tag in single:
                await self._channel.basic_ack(tag, wait=False)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(TOGETHER_S)
        self._flushing = None
        await self.flush()
