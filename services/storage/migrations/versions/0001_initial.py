"""Volumes."""

import sqlalchemy as sa
from alembic import op

from shared.platform_tables import create_platform_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_platform_tables()
    op.create_table(
        "volumes",
        sa.Column("account_id", sa.Uuid(), primary_key=True),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=False),
        sa.Column("quota_files", sa.BigInteger(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("used_files", sa.BigInteger(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("quota_bytes >= 0 AND quota_files >= 0", name="ck_volumes_quota"),
        sa.CheckConstraint("used_bytes >= 0 AND used_files >= 0", name="ck_volumes_used"),
        sa.CheckConstraint("reserved_bytes >= 0", name="ck_volumes_reserved"),
    )


def downgrade() -> None:
    for table in ("volumes", "outbox", "inbox", "dead_letters", "idempotency_keys"):
        op.drop_table(table)
