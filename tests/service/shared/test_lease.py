"""One copy at a time does the work, another takes over, and who comes back late does no harm."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from shared.database import Database, new_metadata
from shared.lease import Lease, LeaseLost, define_leases
from shared.worker import LoneWorker

SHORT_S = 0.6


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    metadata = new_metadata()
    define_leases(metadata)
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(
            text("CREATE TABLE work (id serial, pid int, token bigint, at timestamptz)")
        )
    yield database
    await database.close()


async def run_out(database: Database, name: str) -> None:
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE leases SET expires_at = clock_timestamp() WHERE name = :name"),
            {"name": name},
        )


async def test_of_many_who_ask_at_once_one_gets_it(database: Database) -> None:
    leases = [Lease(database, "a") for _ in range(8)]
    assert sum(await asyncio.gather(*(lease.acquire() for lease in leases))) == 1


async def test_a_lease_is_free_again_once_it_ran_out_or_was_released(database: Database) -> None:
    first, second = Lease(database, "a"), Lease(database, "a")
    assert await first.acquire()
    assert not await second.acquire()
    await run_out(database, "a")
    assert await second.acquire()
    await second.release()
    assert await first.acquire()
    assert first.token == 3


async def test_the_token_rises_and_an_old_one_is_worth_nothing(database: Database) -> None:
    old, new = Lease(database, "a"), Lease(database, "a")
    await old.acquire()
    await run_out(database, "a")
    await new.acquire()
    with pytest.raises(LeaseLost):
        async with old.fenced().transaction() as session:
            await session.execute(text("INSERT INTO work (token) VALUES (1)"))
    assert not await old.renew()
    await old.release()
    async with new.fenced().transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM work"))).scalar_one() == 0


async def test_one_that_ran_out_and_that_nobody_took_may_be_renewed(database: Database) -> None:
    lease = Lease(database, "a")
    await lease.acquire()
    await run_out(database, "a")
    assert await lease.renew()
    assert not await Lease(database, "a").acquire()


async def test_nobody_takes_over_in_the_middle_of_a_confirmed_transaction(
    database: Database,
) -> None:
    first, second = Lease(database, "a", lives_s=SHORT_S), Lease(database, "a")
    await first.acquire()
    async with first.fenced().transaction() as session:
        await run_out_beside(database)
        taking = asyncio.create_task(second.acquire())
        await waiting_for_a_lock(database)
        await session.execute(text("INSERT INTO work (token) VALUES (1)"))
    async with asyncio.timeout(10):
        await taking


async def run_out_beside(database: Database) -> None:
    """It is locked by the transaction under test, so time itself must pass."""
    async with database.transaction() as session, asyncio.timeout(20):
        left = "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM leases"
        while (await session.execute(text(left))).scalar_one() > 0:
            await asyncio.sleep(0.05)


async def waiting_for_a_lock(database: Database) -> None:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(10):
        while True:
            async with database.transaction() as session:
                if (await session.execute(text(asked))).scalar_one():
                    return


class Step:
    """Counts its passes and writes one row in each."""

    def __init__(self) -> None:
        self.passes = 0
        self.under_way = 0
        self.most_at_once = 0

    async def __call__(self, database: Database) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            async with database.transaction() as session:
                await session.execute(text("INSERT INTO work (token) VALUES (0)"))
            self.passes += 1
        finally:
            self.under_way -= 1


async def test_of_three_copies_one_works_and_the_next_takes_over_when_it_stops(
    database: Database,
) -> None:
    steps = [Step() for _ in range(3)]
    shared = Step()

    def worker(step: Step) -> LoneWorker:
        async def both(given: Database) -> None:
            await shared(given)
            await step(given)

        return LoneWorker("w", 0.01, both, lives_s=SHORT_S)

    copies = [asyncio.create_task(worker(step).run(database)) for step in steps]
    seen: set[int] = set()
    for _ in copies:
        async with asyncio.timeout(20):
            while not (at_work := {i for i, step in enumerate(steps) if step.passes > 20} - seen):
                await asyncio.sleep(0.01)
        (leader,) = at_work
        assert all(steps[i].passes == 0 for i in range(3) if i not in seen | {leader})
        seen.add(leader)
        copies[leader].cancel()
        await asyncio.gather(copies[leader], return_exceptions=True)
    assert shared.most_at_once == 1


@asynccontextmanager
async def copy_of(database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.service.shared.lease_copy", database_url
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def rows_of(database: Database, pid: int) -> int:
    async with database.transaction() as session:
        counted = text("SELECT count(*) FROM work WHERE pid = :pid")
        return int((await session.execute(counted, {"pid": pid})).scalar_one())


async def at_work(database: Database, pid: int, beyond: int = 0) -> None:
    async with asyncio.timeout(40):
        while await rows_of(database, pid) <= beyond:
            await asyncio.sleep(0.02)


async def overlaps(database: Database) -> int:
    """Rows of an older token after one of a newer."""
    async with database.transaction() as session:
        found = await session.execute(
            text("SELECT count(*) FROM work a JOIN work b ON a.id < b.id AND a.token > b.token")
        )
        return int(found.scalar_one())


async def test_a_killed_holder_is_followed_within_the_leases_time(
    database: Database, database_url: str
) -> None:
    async with copy_of(database_url) as first:
        await at_work(database, first.pid)
        async with copy_of(database_url) as second:
            os.kill(first.pid, signal.SIGKILL)
            await at_work(database, second.pid)
    assert await overlaps(database) == 0


async def test_a_holder_that_stood_still_and_goes_on_writes_nothing_more(
    database: Database, database_url: str
) -> None:
    """Wherever it stood: also in the middle of a transaction, which the database then ends."""
    async with copy_of(database_url) as first, copy_of(database_url) as second:
        leader, other = await who_leads(database, first, second)
        for _ in range(2):
            os.kill(leader.pid, signal.SIGSTOP)
            await at_work(database, other.pid, await rows_of(database, other.pid))
            before = await rows_of(database, leader.pid)
            os.kill(leader.pid, signal.SIGCONT)
            await at_work(database, other.pid, await rows_of(database, other.pid) + 100)
            assert await rows_of(database, leader.pid) == before
            leader, other = other, leader
    assert await overlaps(database) == 0


async def who_leads(
    database: Database, first: asyncio.subprocess.Process, second: asyncio.subprocess.Process
) -> tuple[asyncio.subprocess.Process, asyncio.subprocess.Process]:
    """The other one after it."""
    async with asyncio.timeout(40):
        while True:
            for leader, other in ((first, second), (second, first)):
                if await rows_of(database, leader.pid):
                    return leader, other
            await asyncio.sleep(0.02)
