"""Loops that re-drive what is not final. A loop that fails says so and goes on."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from shared.metrics import WORKER_INTERVAL, WORKER_LAST_DONE, WORKER_RUNS, WORKER_SECONDS

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Passes:
    """failures: since the last pass that ended well. last_done: monotonic; before the first, when
    the worker began to run."""

    failures: int = 0
    last_done: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Worker:
    """step: one pass over all that is due; it isolates its items itself.
    wake: set to run the next pass at once.
    """

    name: str
    interval_s: float
    step: Callable[[], Awaitable[None]]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    passes: Passes = field(default_factory=Passes)

    async def run(self) -> None:
        """Until cancelled."""
        WORKER_INTERVAL.labels(self.name).set(self.interval_s)
        self._note_done()
        while True:
            self.wake.clear()
            await self._pass()
            # Not wait_for: on Python 3.11 it can swallow a cancellation (gh-86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval_s):
                    await self.wake.wait()

    async def _pass(self) -> None:
        try:
            with WORKER_SECONDS.labels(self.name).time():
                await self.step()
        except Exception as error:
            self.passes.failures += 1
            WORKER_RUNS.labels(self.name, "failed").inc()
            log.exception("worker_step_failed", worker=self.name, exc_info=error)
        else:
            self.passes.failures = 0
            WORKER_RUNS.labels(self.name, "done").inc()
            self._note_done()

    def _note_done(self) -> None:
        self.passes.last_done = time.monotonic()
        WORKER_LAST_DONE.labels(self.name).set_to_current_time()
