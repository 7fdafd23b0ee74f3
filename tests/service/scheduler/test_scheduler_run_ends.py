"""A platform that is upgraded knows the ends of runs that it told in the days before."""

from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

import services.scheduler
from shared.database import Database
from shared.events.scheduler import InstanceStopped
from shared.ids import new_id
from shared.migration import upgrade
from shared.outbox import emit

MIGRATIONS = Path(services.scheduler.__file__).parent / "migrations"


async def test_ends_that_are_still_in_the_outbox_are_on_record_after_the_upgrade(
    database_url: str,
) -> None:
    database = Database(database_url)
    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(_to_the_one_before)
        stop = InstanceStopped(
            instance_id=new_id(), account_id=new_id(), authorisation_id=new_id(),
            stopped_at=datetime(2026, 3, 2, 10, tzinfo=UTC), reason="user",
        )  # fmt: skip
        async with database.transaction() as session:
            await emit(session, stop, subject=stop.instance_id)
        await upgrade(database, MIGRATIONS)
        async with database.transaction() as session:
            (row,) = (await session.execute(text("SELECT * FROM run_ends"))).mappings()
        assert row["authorisation_id"] == stop.authorisation_id
        assert (row["instance_id"], row["stopped_at"]) == (stop.instance_id, stop.stopped_at)
    finally:
        await database.close()


def _to_the_one_before(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "0007")
