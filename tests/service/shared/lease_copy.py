"""A copy of a service in a process of its own, to be stopped and killed: `lease_copy DATABASE_URL`.

Writes a row in each pass, with a pause inside the transaction, so that it is mostly caught there.
"""

import asyncio
import os
import sys

from sqlalchemy import text

from shared.database import Database
from shared.worker import LoneWorker

_WRITE = text(
    """
    INSERT INTO work (pid, token, at) SELECT :pid, token, clock_timestamp() FROM leases
    WHERE name = 'worker:w'
    """
)


async def step(database: Database) -> None:
    async with database.transaction() as session:
        await asyncio.sleep(0.01)
        await session.execute(_WRITE, {"pid": os.getpid()})


async def main(database_url: str) -> None:
    database = Database(database_url)
    await LoneWorker("w", 0.001, step, lives_s=1.0).run(database)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
