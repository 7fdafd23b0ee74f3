"""Nodes, GPUs and promises, instances with their ports and history, SSH keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.platform_tables import create_platform_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATES = (
    "'queued', 'creating', 'starting', 'running', 'stopping', 'stopped', 'saving', 'releasing', "
    "'released', 'failed', 'lost'"
)


def upgrade() -> None:
    create_platform_tables()
    _create_nodes()
    _create_gpus()
    _create_instances()
    _create_promises()
    _create_history()
    _create_ssh_keys()
    _create_reservations()


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _words(*names: str, nullable: bool = False) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.String(), nullable=nullable) for name in names]


def _big(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.Uuid(), nullable=False),
        *_words("name", "region", "state", "cpu_model", "driver_version", "max_cuda"),
        *_words("address", "app_address", "boot_id"),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("cpu_cores", sa.Float(), nullable=False),
        sa.Column("tflops", sa.Float(), nullable=False),
        *_big("memory_bytes", "disk_bytes", "disk_free_bytes", "sequence", "version"),
        sa.Column("port_first", sa.Integer(), nullable=False),
        sa.Column("port_last", sa.Integer(), nullable=False),
        sa.Column("next_port", sa.Integer(), nullable=False),
        _moment("reported_at"),
        _moment("heard_at"),
        _moment("usage_proven_at", nullable=True),
        sa.Column("told", JSONB(), nullable=True),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.CheckConstraint("state IN ('online', 'silent', 'lost')", name=op.f("ck_nodes_state")),
    )


def _create_gpus() -> None:
    op.create_table(
        "gpus",
        sa.Column("node_id", sa.Uuid(), nullable=False),
        *_words("uuid", "model"),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("healthy", sa.Boolean(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("promised_milli", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "uuid", name="pk_gpus"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_gpus_node_id_nodes"),
        sa.CheckConstraint(
            "promised_milli BETWEEN 0 AND 1000", name=op.f("ck_gpus_promised_milli")
        ),
    )


def _create_instances() -> None:
    op.create_table(
        "instances",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        *_words("name", "state", "mode", "image_name", "image_address", "progress_mark"),
        *_words("password", "password_hash", "app_token", "ssh_host_key"),
        *_words("resume", "stop_reason", "save_reference", nullable=True),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("cpu_cores", sa.Float(), nullable=False),
        *_big("memory_bytes", "generation", "version"),
        sa.Column("env", JSONB(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("image_apps", JSONB(), nullable=False),
        sa.Column("ssh_port", sa.Integer(), nullable=False),
        sa.Column("app_port", sa.Integer(), nullable=False),
        sa.Column("start_token", sa.Uuid(), nullable=False),
        sa.Column("authorisation_id", sa.Uuid(), nullable=True),
        sa.Column("price_per_hour", sa.Numeric(18, 4), nullable=False),
        sa.Column("next_authorisation_id", sa.Uuid(), nullable=True),
        sa.Column("next_price_per_hour", sa.Numeric(18, 4), nullable=True),
        sa.Column("status_reason", JSONB(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("save_image_id", sa.Uuid(), nullable=True),
        _moment("progress_at"),
        _moment("created_at"),
        _moment("start_ordered_at"),
        _moment("started_at", nullable=True),
        _moment("stopped_at", nullable=True),
        _moment("releasing_at", nullable=True),
        _moment("released_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_instances_node_id_nodes"),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_instances_state")),
        sa.CheckConstraint("mode IN ('gpu', 'cpu')", name=op.f("ck_instances_mode")),
        sa.CheckConstraint(
            "(state = 'saving') = (save_image_id IS NOT NULL)", name=op.f("ck_instances_save")
        ),
        sa.CheckConstraint("gpu_count > 0", name=op.f("ck_instances_gpu_count")),
    )
    op.create_index("ix_instances_account_id_created_at", "instances", ["account_id", "created_at"])
    op.create_index("ix_instances_node_id_state", "instances", ["node_id", "state"])


def _create_promises() -> None:
    op.create_table(
        "promises",
        sa.Column("node_id", sa.Uuid(), nullable=False),
        *_words("gpu_uuid"),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        sa.Column("milli", sa.Integer(), nullable=False),
        _moment("promised_at"),
        sa.PrimaryKeyConstraint("node_id", "gpu_uuid", "instance_id", name="pk_promises"),
        sa.ForeignKeyConstraint(
            ["node_id", "gpu_uuid"], ["gpus.node_id", "gpus.uuid"], name="fk_promises_node_id_gpus"
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name="fk_promises_instance_id_instances"
        ),
        sa.CheckConstraint("milli BETWEEN 1 AND 1000", name=op.f("ck_promises_milli")),
    )
    op.create_index("ix_promises_instance_id", "promises", ["instance_id"])
    op.create_table(
        "ports",
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "port", name="pk_ports"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_ports_node_id_nodes"),
    )
    op.create_index("ix_ports_instance_id", "ports", ["instance_id"])


def _create_history() -> None:
    op.create_table(
        "instance_history",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        _moment("at"),
        *_words("from_state", nullable=True),
        *_words("to_state", "cause"),
        sa.Column("reason", JSONB(), nullable=True),
        *_big("generation"),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_instance_history"),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name="fk_instance_history_instance_id_instances"
        ),
    )
    op.create_index("ix_instance_history_instance_id_at", "instance_history", ["instance_id", "at"])


def _create_ssh_keys() -> None:
    op.create_table(
        "ssh_keys",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        *_words("public_key"),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_ssh_keys"),
    )
    op.create_index("ix_ssh_keys_account_id", "ssh_keys", ["account_id"])


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        *_words("kind", "request"),
        _moment("made_at"),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
        sa.UniqueConstraint("owner_id", "request", name="uq_reservations_owner_id"),
        sa.CheckConstraint("kind IN ('start', 'image')", name=op.f("ck_reservations_kind")),
    )
    op.create_index("ix_reservations_made_at", "reservations", ["made_at"])


def downgrade() -> None:
    op.drop_table("reservations")
    for table in ("ssh_keys", "instance_history", "ports", "promises", "instances", "gpus"):
        op.drop_table(table)
    op.drop_table("nodes")
    for table in ("idempotency_keys", "dead_letters", "inbox", "outbox"):
        op.drop_table(table)
