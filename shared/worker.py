"""Loops that re-drive what is not final. A loop that fails says so and goes on.

Where a service runs in several copies, a `Worker` runs in each of them: its step must be harmless
beside itself. A `LoneWorker` runs in one copy at a time.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.database import Database
from shared.lease import LIVES_S, RENEWALS, Lease, LeaseLost
from shared.metrics import WORKER_INTERVAL, WORKER_LAST_DONE, WORKER_RUNS, WORKER_SECONDS

log = structlog.get_logger(__name__)

CANCEL_AGAIN_S = 0.5


async def stop(*tasks: "asyncio.Task[None]") -> None:
    """Cancelled, and over when this returns. Asked again while it goes on, since libraries swallow
    a cancellation at times (fakeredis does)."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class Passes:
    """failures: since the last pass that ended well. last_done: monotonic; before the first, when
    the worker began to run."""

    failures: int = 0
    last_done: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Worker:
    """interval_s: None for one that only runs when it is woken.
    step: one pass over all that is due; it isolates its items itself.
    wake: set to run the next pass at once.
    """

    name: str
    interval_s: float | None
    step: Callable[..., Awaitable[None]]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    passes: Passes = field(default_factory=Passes)

    async def run(self, database: Database) -> None:
        """Until cancelled. database: the service's own."""
        self._note_watched()
        await self._passes(self.step)

    async def _passes(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.wake.clear()
            await self._pass(step)
            # Not wait_for: on Python 3.11 it can swallow a cancellation (gh-86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval_s):
                    await self.wake.wait()

    async def _pass(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            with WORKER_SECONDS.labels(self.name).time():
                await step()
        except LeaseLost as lost:
            log.info("worker_overtaken", worker=self.name, lease=str(lost))
        except Exception as error:
            self.passes.failures += 1
            WORKER_RUNS.labels(self.name, "failed").inc()
            log.exception("worker_step_failed", worker=self.name, exc_info=error)
        else:
            self.passes.failures = 0
            WORKER_RUNS.labels(self.name, "done").inc()
            self._note_done()

    def _note_watched(self) -> None:
        if self.interval_s is not None:
            WORKER_INTERVAL.labels(self.name).set(self.interval_s)
        self._note_done()

    def _note_done(self) -> None:
        self.passes.last_done = time.monotonic()
        WORKER_LAST_DONE.labels(self.name).set_to_current_time()


@dataclass(frozen=True, slots=True)
class LoneWorker(Worker):
    """Runs in the copy that holds the lease `worker:<name>`; the others take over when it dies.

    step: gets the database to work on, whose transactions raise LeaseLost once another copy has
    taken over, even if this one only wakes up then. `wake` reaches the step in the copy that leads
    alone: what another copy's request must set off at once belongs into a `Worker` beside it.
    """

    lives_s: float = LIVES_S

    async def run(self, database: Database) -> None:
        """Until cancelled."""
        self._note_watched()
        lease = Lease(database, f"worker:{self.name}", lives_s=self.lives_s)
        try:
            while True:
                if await self._acquired(lease):
                    await self._lead(lease)
                # Who does not lead is not late.
                self._note_done()
                await asyncio.sleep(self.lives_s / RENEWALS)
        finally:
            await lease.release()

    async def _acquired(self, lease: Lease) -> bool:
        try:
            return await lease.acquire()
        except (SQLAlchemyError, OSError) as error:
            log.warning("lease_not_acquired", lease=lease.name, error=repr(error))
            return False

    async def _lead(self, lease: Lease) -> None:
        """Until the lease is lost."""
        log.info("worker_leads", worker=self.name, token=lease.token)
        database = lease.fenced()
        tasks = {
            asyncio.create_task(self._passes(lambda: self.step(database))),
            asyncio.create_task(lease.keep()),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop(*tasks)
