"""Nodes are drained, lost and removed; what ran on a lost one is settled and may go on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NODE_STATES = "'online', 'silent', 'lost', 'removed'"


def upgrade() -> None:
    for column, default in (
        (sa.Column("draining", sa.Boolean(), nullable=False), "false"),
        (sa.Column("labels", JSONB(), nullable=False), "{}"),
        (sa.Column("digest", sa.String(), nullable=False), ""),
        (sa.Column("running", ARRAY(sa.Uuid()), nullable=False), "{}"),
    ):
        column.server_default = sa.DefaultClause(default)
        op.add_column("nodes", column)
        op.alter_column("nodes", column.name, server_default=None)
    op.drop_constraint(op.f("ck_nodes_state"), "nodes")
    op.create_check_constraint(op.f("ck_nodes_state"), "nodes", f"state IN ({NODE_STATES})")
    op.add_column("instances", sa.Column("lost_authorisation_id", sa.Uuid(), nullable=True))
    op.add_column(
        "instances", sa.Column("seen_running_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_table(
        "breaker",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("counted_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_breaker"),
        sa.CheckConstraint("id = 1", name=op.f("ck_breaker_one")),
    )
    op.execute("INSERT INTO breaker (id) VALUES (1)")


def downgrade() -> None:
    op.drop_table("breaker")
    op.drop_column("instances", "seen_running_at")
    op.drop_column("instances", "lost_authorisation_id")
    op.drop_constraint(op.f("ck_nodes_state"), "nodes")
    op.create_check_constraint(
        op.f("ck_nodes_state"), "nodes", "state IN ('online', 'silent', 'lost')"
    )
    for column in ("running", "digest", "labels", "draining"):
        op.drop_column("nodes", column)
