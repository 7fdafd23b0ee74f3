"""Which copy of storage promised room, so that one that dies takes only its own promises along."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "promises",
        sa.Column("copy_id", sa.Uuid(), primary_key=True),
        sa.Column("account_id", sa.Uuid(), primary_key=True),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved_bytes >= 0", name="ck_promises_reserved"),
    )
    # Until now a process forgot all promises at its start.
    op.execute("UPDATE volumes SET reserved_bytes = 0")


def downgrade() -> None:
    op.drop_table("promises")
