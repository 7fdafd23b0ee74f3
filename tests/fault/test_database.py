"""The database goes away, refuses, or leaves a commit unanswered: F25, F26, F28, F29.

During the fault nothing wrong is said (a 2xx stands, a 503 may be tried again); after it everything
comes to rest by itself.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from cli.up.postgres import Postgres
from shared.database import Database, DatabaseAway
from tests.e2e.waiting import until


@pytest.fixture
async def own_postgres() -> AsyncIterator[Postgres]:
    """One that a test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="chusuan-pg-"))
    folder.chmod(0o711)
    server = Postgres(folder / "postgres")
    await server.start()
    keeper = asyncio.create_task(server.keep_up())
    yield server
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    await server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=2)
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE things (id int PRIMARY KEY)"))
        await session.execute(text("INSERT INTO things VALUES (1), (2)"))
    yield database
    await database.close()


def master_of(server: Postgres) -> int:
    return int((server._folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL], ids=["immediate", "kill"])
async def test_the_embedded_postgres_comes_back_with_what_was_committed(
    own_postgres: Postgres, how: signal.Signals
) -> None:
    await own_postgres.create_database("kept")
    database = Database(own_postgres.url("kept"))
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE things (id int)"))
    before = master_of(own_postgres)
    os.kill(before, how)

    async def works() -> bool:
        try:
            async with database.transaction() as session:
                await session.execute(text("INSERT INTO things VALUES (1)"))
            # A backend outlives its master for a moment, and works on.
            return master_of(own_postgres) != before
        except OSError:
            return False

    await until(works, timeout_s=60, what="a new server works with what was there")
    await database.close()


async def test_a_connection_that_is_ended_under_a_transaction_is_the_database_away(
    database: Database,
) -> None:
    async def cut_off() -> None:
        async with database.transaction() as session:
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await _as_admin(database, f"SELECT pg_terminate_backend({pid})")
            await session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseAway):
        await cut_off()
    async with database.transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM things"))).scalar_one() == 2


async def test_a_read_only_database_is_the_database_away(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL transaction_read_only = on"))
            await session.execute(text("INSERT INTO things VALUES (3)"))

    with pytest.raises(DatabaseAway):
        await write()


async def test_a_deadlock_is_the_database_away_for_one_and_no_matter_for_the_other(
    database: Database,
) -> None:
    meet = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> str:
        statement = text("SELECT 1 FROM things WHERE id = :id FOR UPDATE")
        try:
            async with database.transaction() as session:
                await session.execute(statement, {"id": first})
                await meet.wait()
                await session.execute(statement, {"id": second})
        except DatabaseAway:
            return "away"
        return "done"

    assert sorted(await asyncio.gather(lock(1, 2), lock(2, 1))) == ["away", "done"]


async def test_no_free_connection_is_the_database_away_within_seconds(database: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            session = await stack.enter_async_context(database.transaction())
            await session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseAway):
            async with asyncio.timeout(10), database.transaction() as one_more:
                await one_more.execute(text("SELECT 1"))


async def test_a_table_that_somebody_locks_is_the_database_away_within_seconds(
    database: Database,
) -> None:
    async with database.transaction() as holder:
        await holder.execute(text("LOCK TABLE things"))
        with pytest.raises(DatabaseAway):
            async with asyncio.timeout(15), database.transaction() as session:
                await session.execute(text("SELECT 1 FROM things"))


async def test_a_broken_rule_is_not_the_database_away(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO things VALUES (1)"))


async def _as_admin(database: Database, statement: str) -> None:
    url = database.engine.url
    connection = await asyncpg.connect(
        host=str(url.query["host"]), user="postgres", database=url.database
    )
    await connection.execute(statement)
    await connection.close()
