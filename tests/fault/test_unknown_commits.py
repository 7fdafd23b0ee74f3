"""F26: a COMMIT gets through and its answer does not. The same request with its key settles it."""

import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Literal

import httpx
import pytest
from sqlalchemy import make_url

from tests.e2e.waiting import until
from tests.fault.invariants import settles
from tests.fault.proxy import Proxy, open_proxy
from tests.fault.rooms import Rooms, open_rooms

COMMIT = b"COMMIT;"
SOCKET = ".s.PGSQL.5432"


@asynccontextmanager
async def proxied_rooms(
    new_database: Callable[[], Awaitable[str]], folder: Path
) -> AsyncIterator[tuple[Rooms, Proxy]]:
    with tempfile.TemporaryDirectory(prefix="chusuan-px-") as run:
        host = make_url(await new_database()).query["host"]
        async with open_proxy(Path(run) / SOCKET, Path(str(host)) / SOCKET) as proxy:

            async def through() -> str:
                return (await new_database()).replace(str(host), run)

            async with open_rooms(through, folder, random.Random(1)) as rooms:

                async def offered() -> bool:
                    return bool(await rooms.ask("market", "SELECT 1 FROM hosts"))

                await until(offered, timeout_s=30, what="the market knows the host")
                yield rooms, proxy


@pytest.mark.parametrize("when", ["request", "answer"])
async def test_a_request_whose_commit_was_cut_off_is_settled_by_its_key(
    new_database: Callable[[], Awaitable[str]],
    tmp_path: Path,
    when: Literal["request", "answer"],
) -> None:
    async with proxied_rooms(new_database, tmp_path) as (rooms, proxy):
        account = await rooms.account("100")
        wish = await rooms.wish(name="one")
        # Other commits of the rooms are cut meanwhile too, whichever come first.
        for times in (1, 2, 4, 8):
            proxy.cut_at(COMMIT, when, times=times)
            await _settled(lambda: rooms.credit(account, Decimal(5), key=f"credit-{times}"))  # noqa: B023
            proxy.cut_at(COMMIT, when, times=times)
            await _settled(lambda: rooms.post(account, "/instances", wish, key="the-only-rent"))
        proxy.heal()
        assert proxy.cuts >= 15
        rows = await rooms.ask("scheduler", "SELECT id FROM instances")
        assert len(rows) == 1
        booked = await rooms.ask(
            "market", "SELECT note FROM ledger_transactions WHERE note LIKE 'credit-%'"
        )
        assert sorted(row["note"] for row in booked) == [f"credit-{n}" for n in (1, 2, 4, 8)]
        await settles(rooms)


async def _settled(request: Callable[[], Awaitable[httpx.Response]]) -> None:
    async def answered() -> bool:
        response = await request()
        assert response.status_code in (200, 201, 503), response.text
        return response.is_success

    await until(answered, timeout_s=60, what="the request is answered")
