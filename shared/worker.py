"""Loops that re-drive what is not final. A loop that fails says so and goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Worker:
    """step: one pass over all that is due; it isolates its items itself.
    wake: set to run the next pass at once.
    """

    name: str
    interval_s: float
    step: Callable[[], Awaitable[None]]
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.wake.clear()
            try:
                await self.step()
            except Exception as error:
                log.exception("worker_step_failed", worker=self.name, exc_info=error)
            # Not wait_for: on Python 3.11 it can swallow a cancellation (gh-86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval_s):
                    await self.wake.wait()
