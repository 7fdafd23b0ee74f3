"""Connections are kept once they were needed, up to what was allowed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from shared.database import Database

AT_ONCE = 4


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=AT_ONCE // 2)
    yield database
    await database.close()


async def backends(database: Database) -> set[int]:
    """Of as many transactions at once as are allowed."""
    together = asyncio.Barrier(AT_ONCE)

    async def one() -> int:
        async with database.transaction() as session:
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await together.wait()
            return int(pid)

    async with asyncio.timeout(30):
        return set(await asyncio.gather(*(one() for _ in range(AT_ONCE))))


async def test_the_connections_of_a_rush_are_there_for_the_next_one(database: Database) -> None:
    first = await backends(database)
    assert len(first) == AT_ONCE == database.most_connections
    assert await backends(database) == first
