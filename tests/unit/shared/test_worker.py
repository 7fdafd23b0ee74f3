"""A worker says how it does: to Prometheus and to whoever asks."""

import asyncio
import time

from prometheus_client import REGISTRY

from shared.database import Database
from shared.ids import new_id
from shared.worker import Worker


async def test_a_failing_worker_goes_on_and_its_failures_and_its_rest_show() -> None:
    fails = True
    turns = asyncio.Semaphore(0)

    async def step() -> None:
        turns.release()
        if fails:
            raise ValueError("not today")

    worker = Worker(f"test.{new_id()}", 0.0, step)
    task = asyncio.create_task(worker.run(Database("postgresql+asyncpg:///nowhere")))
    await turns.acquire()
    await turns.acquire()
    assert worker.passes.failures >= 1
    labels = {"worker": worker.name, "outcome": "failed"}
    assert (REGISTRY.get_sample_value("chusuan_worker_runs_total", labels) or 0) >= 1
    fails = False
    before = time.monotonic()
    while worker.passes.failures:
        await turns.acquire()
    assert worker.passes.last_done >= before
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
