"""F34 without another process: wall clocks of agent and scheduler are set back an hour."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

import agent.node
import services.scheduler.ordering
from shared.clock import utc_now
from tests.e2e.waiting import until
from tests.fault.invariants import settles
from tests.fault.rooms import Rooms, open_rooms

BACK = timedelta(hours=1)


@pytest.fixture
async def rooms(new_database: Callable[[], Awaitable[str]], tmp_path: Path) -> AsyncIterator[Rooms]:
    async with open_rooms(new_database, tmp_path, random.Random(1)) as opened:

        async def offered() -> bool:
            return bool(await opened.ask("market", "SELECT 1 FROM hosts"))

        await until(offered, timeout_s=30, what="the market knows the host")
        yield opened


async def _arrives(rooms: Rooms, instance: UUID, state: str) -> None:
    async def arrived() -> bool:
        rows = await rooms.ask("scheduler", "SELECT state FROM instances WHERE id = $1", instance)
        return bool(rows[0]["state"] == state)

    await until(arrived, timeout_s=30, what=f"{instance} is {state}")


async def _running(rooms: Rooms) -> tuple[UUID, UUID]:
    account = await rooms.account("100")
    rented = (await rooms.post(account, "/instances", await rooms.wish())).json()
    instance = UUID(rented["id"])
    await _arrives(rooms, instance, "running")
    return account, instance


async def _stop_and_release(rooms: Rooms, account: UUID, instance: UUID) -> None:
    await rooms.post(account, f"/instances/{instance}/stop")
    await _arrives(rooms, instance, "stopped")
    await rooms.post(account, f"/instances/{instance}/release")
    await _arrives(rooms, instance, "released")
    await settles(rooms)


async def test_an_agent_whose_clock_was_set_back_is_still_believed(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, instance = await _running(rooms)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - int(BACK.total_seconds() * 1e9))
    monkeypatch.setattr(agent.node, "utc_now", lambda: utc_now() - BACK)
    await rooms.kill()
    await rooms.start()
    await _stop_and_release(rooms, account, instance)


async def test_a_scheduler_whose_clock_was_set_back_is_still_obeyed(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, instance = await _running(rooms)
    monkeypatch.setattr(services.scheduler.ordering, "utc_now", lambda: utc_now() - BACK)
    await _stop_and_release(rooms, account, instance)
