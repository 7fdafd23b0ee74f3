"""Images."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.platform_tables import create_platform_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_platform_tables()
    op.create_table(
        "images",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        *[sa.Column(name, sa.String(), nullable=False) for name in ("name", "creator", "address")],
        sa.Column("recipe", sa.String(), nullable=True),
        sa.Column("base", sa.String(), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=False),
        *[
            sa.Column(name, sa.String(), nullable=False)
            for name in ("framework", "framework_version", "python", "cuda", "status")
        ],
        sa.Column("apps", JSONB(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("message", JSONB(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("source_image_id", sa.Uuid(), nullable=True),
        sa.Column("instance_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("address", name="uq_images_address"),
        sa.CheckConstraint("status IN ('building', 'ready', 'failed')", name="ck_images_status"),
        sa.CheckConstraint("kind IN ('system', 'saved')", name="ck_images_kind"),
        sa.CheckConstraint("(kind = 'system') = (owner_id IS NULL)", name="ck_images_owner"),
        sa.CheckConstraint("(kind = 'system') = (recipe IS NOT NULL)", name="ck_images_recipe"),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="ck_images_progress"),
    )
    op.create_index(
        "uq_images_live_name",
        "images",
        ["owner_id", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_images_deleted_at", "images", ["deleted_at"])
