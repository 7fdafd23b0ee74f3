"""When each run ended, for the market to ask: a fact may be lost. Those of the last days are taken
from the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run_ends",
        sa.Column("authorisation_id", sa.Uuid(), nullable=False),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("authorisation_id", name="pk_run_ends"),
    )
    op.create_index("ix_run_ends_recorded_at", "run_ends", ["recorded_at"])
    op.create_index("ix_instances_authorisation_id", "instances", ["authorisation_id"])
    op.execute(
        """
        INSERT INTO run_ends (authorisation_id, instance_id, stopped_at)
        SELECT CAST(envelope #>> '{data,authorisation_id}' AS uuid),
               CAST(envelope #>> '{data,instance_id}' AS uuid),
               CAST(envelope #>> '{data,stopped_at}' AS timestamptz)
        FROM outbox WHERE envelope ->> 'type' = 'scheduler.instance.stopped'
        ORDER BY position ON CONFLICT DO NOTHING
        """
    )


def downgrade() -> None:
    op.drop_index("ix_instances_authorisation_id", "instances")
    op.drop_table("run_ends")
