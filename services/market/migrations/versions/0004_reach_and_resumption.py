"""How far the money reaches is told; a run goes on after the loss of its host."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("reach_told", "reach_told_at"):
        op.add_column("wallets", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "early_stops",
        sa.Column("authorisation_id", sa.Uuid(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("authorisation_id", name="pk_early_stops"),
    )
    op.create_index("ix_authorisations_instance_id", "authorisations", ["instance_id"])


def downgrade() -> None:
    op.drop_index("ix_authorisations_instance_id", "authorisations")
    op.drop_table("early_stops")
    for name in ("reach_told_at", "reach_told"):
        op.drop_column("wallets", name)
