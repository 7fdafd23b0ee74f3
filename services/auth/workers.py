"""What auth clears away by itself."""

from services.auth.login import forget_old_sessions
from shared.database import Database
from shared.outbox import forget_published
from shared.worker import Worker

INTERVAL_S = 3600.0


def clearing(database: Database) -> Worker:
    async def step() -> None:
        await forget_old_sessions(database)
        async with database.transaction() as session:
            await forget_published(session)

    return Worker("auth.clearing", INTERVAL_S, step)
