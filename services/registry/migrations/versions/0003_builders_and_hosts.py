"""Who builds or saves an image, and whether a deleted one's manifest is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("builder", sa.String(), nullable=True))
    op.add_column("images", sa.Column("host_id", sa.Uuid(), nullable=True))
    op.add_column(
        "images", sa.Column("manifest_gone_at", sa.DateTime(timezone=True), nullable=True)
    )
