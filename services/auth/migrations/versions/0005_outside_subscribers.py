"""Outside programs that hear facts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outside_subscribers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("patterns", ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("trouble", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outside_subscribers"),
        sa.CheckConstraint(
            "state IN ('wanted', 'standing', 'dismissed', 'gone')",
            name=op.f("ck_outside_subscribers_state"),
        ),
    )
    op.create_index(
        "uq_outside_subscribers_name",
        "outside_subscribers",
        ["name"],
        unique=True,
        postgresql_where=sa.text("state <> 'gone'"),
    )


def downgrade() -> None:
    op.drop_table("outside_subscribers")
