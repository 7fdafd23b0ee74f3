"""F34 without another process: wall clocks are set back an hour while an instance runs.

Orders and leases go by the database's clock and by that of the host's boot, fences by generations;
what is billed goes by the host's.
"""

import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from shared.clock import utc_now
from shared.database import database_now
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


async def _running(rooms: Rooms, account: UUID) -> UUID:
    rented = (await rooms.post(account, "/instances", await rooms.wish())).json()
    instance = UUID(rented["id"])
    await _arrives(rooms, instance, "running")
    return instance


async def _goes_on(rooms: Rooms, account: UUID, instance: UUID) -> None:
    """What runs is stopped, another is rented and released, and all comes to rest."""
    another = await _running(rooms, account)
    await rooms.post(account, f"/instances/{instance}/stop")
    await _arrives(rooms, instance, "stopped")
    await rooms.post(account, f"/instances/{another}/release")
    await _arrives(rooms, another, "released")
    await settles(rooms)


def _set_back(monkeypatch: pytest.MonkeyPatch, *folders: str) -> None:
    """The wall clock of all modules of these."""

    def now() -> datetime:
        return utc_now() - BACK

    for name, module in list(sys.modules.items()):
        if name.startswith(folders) and getattr(module, "utc_now", None) is utc_now:
            monkeypatch.setattr(module, "utc_now", now)


@pytest.mark.parametrize(
    "clocks",
    [
        pytest.param(("agent.", "tests.fault.fake_engine"), id="host"),
        pytest.param(("services.scheduler.",), id="scheduler"),
        pytest.param(("services.market.",), id="market"),
        pytest.param(("agent.", "services.", "shared.", "tests.fault.fake_engine"), id="all"),
    ],
)
async def test_instances_are_stopped_billed_and_rented_with_a_clock_set_back(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch, clocks: tuple[str, ...]
) -> None:
    account = await rooms.account("100")
    instance = await _running(rooms, account)
    _set_back(monkeypatch, *clocks)
    await _goes_on(rooms, account, instance)


async def test_an_agent_that_restarts_with_its_clock_set_back_is_still_believed(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await rooms.account("100")
    instance = await _running(rooms, account)
    await rooms.kill()
    _set_back(monkeypatch, "agent.", "tests.fault.fake_engine")
    await rooms.start()
    await _goes_on(rooms, account, instance)


async def test_orders_are_obeyed_and_leases_hold_with_the_databases_clock_set_back(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await rooms.account("100")
    instance = await _running(rooms, account)

    async def earlier(session: AsyncSession) -> datetime:
        return await database_now(session) - BACK

    for name, module in list(sys.modules.items()):
        if name.startswith("services.") and getattr(module, "database_now", None) is database_now:
            monkeypatch.setattr(module, "database_now", earlier)
    await _goes_on(rooms, account, instance)
