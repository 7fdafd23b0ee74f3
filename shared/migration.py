"""Alembic, run by the service itself at its start, one process at a time.

`migrations/env.py` of every service is two lines: it calls `run_migrations(metadata)`.
"""

from pathlib import Path

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, MetaData, text

from shared.database import Database

# Any constant: it only has to be the same for all copies of one service.
_ADVISORY_LOCK = 0x0C55A


async def upgrade(database: Database, migrations: Path) -> None:
    """Bring the database to the newest revision; copies that start together wait in line."""

    def run(connection: Connection) -> None:
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        config = Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with database.engine.begin() as connection:
        await connection.run_sync(run)


def run_migrations(metadata: MetaData) -> None:
    """The whole of a service's `env.py`."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, transactional_ddl=False
    )
    context.run_migrations()
