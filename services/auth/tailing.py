"""Facts as they happen, for an operator who watches. Nobody waits for who watches: a slow reader
misses the oldest and is told how many."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.auth.errors import TooManyTails
from shared.bus import Bus, Keeping, Subscription
from shared.bus.routes import Route, route_of
from shared.events.envelope import Envelope
from shared.ids import new_id

MOST_WAITING = 1000
MOST_TAILS = 20


@dataclass(frozen=True, slots=True)
class Heard:
    """dropped: how many this reader missed before `events`, being too slow."""

    dropped: int
    events: list[Envelope]


class Tail:
    """One reader's own queue."""

    def __init__(self) -> None:
        self._waiting: deque[Envelope] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    async def take(self, event: Envelope) -> None:
        # A bus without exchanges brings orders and reports too, where a pattern is wide.
        if route_of(event.type) is not Route.facts:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)
        self._filled.set()

    async def read(self, within_s: float) -> Heard:
        """All that has come since; nothing when nothing came in that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._filled.wait()
        self._filled.clear()
        heard = Heard(self._dropped, list(self._waiting))
        self._waiting.clear()
        self._dropped = 0
        return heard


class Tails:
    """Of this copy of auth. Each has a queue of its own at the bus, which ends with it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._open = 0

    @asynccontextmanager
    async def open(self, patterns: Sequence[str]) -> AsyncIterator[Tail]:
        """What is told from now on. Raises TooManyTails."""
        if self._open >= MOST_TAILS:
            raise TooManyTails(limit=MOST_TAILS)
        self._open += 1
        tail, queue = Tail(), f"auth.tail.{new_id()}"
        try:
            await self._bus.subscribe(
                Subscription(queue, tuple(patterns), tail.take, keeping=Keeping.nothing)
            )
            yield tail
        finally:
            self._open -= 1
            await self._bus.unsubscribe(queue)
