"""Hosts join by invitation and have credentials of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _words(*names: str, nullable: bool = False) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.String(), nullable=nullable) for name in names]


def _ids(*names: str, nullable: bool = False) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Uuid(), nullable=nullable) for name in names]


def upgrade() -> None:
    for column in _words("given_name", "given_region", nullable=True):
        op.add_column("nodes", column)
    op.add_column(
        "nodes", sa.Column("revoked", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.alter_column("nodes", "revoked", server_default=None)
    op.create_table(
        "invitations",
        *_ids("id"),
        *_words("state", "secret_hash"),
        *_words("name", "region", nullable=True),
        *_ids("created_by"),
        _moment("created_at"),
        _moment("expires_at"),
        *_ids("agent_id", "node_id", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("secret_hash", name="uq_invitations_secret_hash"),
        sa.CheckConstraint(
            "state IN ('open', 'used', 'expired')", name=op.f("ck_invitations_state")
        ),
        sa.CheckConstraint(
            "(state = 'used') = (agent_id IS NOT NULL AND node_id IS NOT NULL)",
            name=op.f("ck_invitations_used"),
        ),
    )
    op.create_table(
        "node_credentials",
        *_ids("node_id", "agent_id"),
        *_words("state", "password_hash"),
        *_ids("attempt"),
        _moment("busy_until"),
        _moment("changed_at"),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_credentials"),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name="fk_node_credentials_node_id_nodes"
        ),
        sa.CheckConstraint(
            "state IN ('admitting', 'admitted', 'dismissing', 'dismissed')",
            name=op.f("ck_node_credentials_state"),
        ),
    )
    op.create_index(
        "ix_node_credentials_live_agent",
        "node_credentials",
        ["agent_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'dismissed'"),
    )


def downgrade() -> None:
    op.drop_table("node_credentials")
    op.drop_table("invitations")
    for column in ("revoked", "given_region", "given_name"):
        op.drop_column("nodes", column)
