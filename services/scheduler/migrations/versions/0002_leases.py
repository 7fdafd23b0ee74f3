"""Leases: what one copy of the service does for all."""

from alembic import op

from shared.platform_tables import create_leases

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_leases()


def downgrade() -> None:
    op.drop_table("leases")
