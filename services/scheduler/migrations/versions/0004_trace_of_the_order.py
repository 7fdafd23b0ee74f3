"""Which trace the present order of an instance belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    op.drop_column("instances", "traceparent")
