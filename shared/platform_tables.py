"""The tables that every service's database has, and their creation in its migrations."""

from alembic import op
from sqlalchemy import MetaData

from shared.database import new_metadata
from shared.idempotency import define_idempotency
from shared.inbox import define_inbox
from shared.lease import define_leases
from shared.outbox import define_outbox


def define_platform_tables(metadata: MetaData) -> None:
    """As they are now."""
    _define_first_tables(metadata)
    define_leases(metadata)


def _define_first_tables(metadata: MetaData) -> None:
    define_outbox(metadata)
    define_inbox(metadata)
    define_idempotency(metadata)


def create_platform_tables() -> None:
    """Called by the first migration of each service; what came later has migrations of its own."""
    metadata = new_metadata()
    _define_first_tables(metadata)
    metadata.create_all(op.get_bind())


def create_leases() -> None:
    """Called by the migration `leases` of each service."""
    metadata = new_metadata()
    define_leases(metadata)
    metadata.create_all(op.get_bind())


def count_dead_letter_attempts() -> None:
    """For databases that were made before dead letters counted their attempts."""
    op.execute(
        "ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 1"
    )
