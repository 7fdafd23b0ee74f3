"""Tables of the image centre."""

from datetime import datetime
from typing import TypedDict
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from services.registry.domain.states import Kind, State
from shared.database import new_metadata
from shared.platform_tables import define_platform_tables

STATES = ", ".join(f"'{state}'" for state in State)
KINDS = ", ".join(f"'{kind}'" for kind in Kind)
Words = dict[str, str]


class App(TypedDict):
    """path: below the instance's own door, without a leading slash."""

    name: str
    path: str


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    metadata = new_metadata()
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it
        datetime: DateTime(timezone=True),
        dict[str, str]: JSONB,
        list[App]: JSONB,
    }


define_platform_tables(Base.metadata)


class Image(Base, kw_only=True):
    """owner_id: None for system images. rank: their order. base: the recipe a recipe stands on.
    heard_at: when a builder last said something of it, at first when it was wanted.
    builder: the source of whose reports that was; nobody else's count while it is heard.
    host_id: the node that saves it. manifest_gone_at: a deleted one's bytes may go by now.
    deleted_at: the row stays, since hosts must be told and instances may stand on it; for a system
    image: its recipe is there no more.
    """

    __tablename__ = "images"
    __table_args__ = (
        CheckConstraint(f"status IN ({STATES})", name="status"),
        CheckConstraint(f"kind IN ({KINDS})", name="kind"),
        CheckConstraint("(kind = 'system') = (owner_id IS NULL)", name="owner"),
        CheckConstraint("(kind = 'system') = (recipe IS NOT NULL)", name="recipe"),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
        Index(
            "uq_images_live_name", "owner_id", "name", unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(None, "deleted_at"),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[UUID | None]
    name: Mapped[str]
    creator: Mapped[str]
    address: Mapped[str] = mapped_column(unique=True)
    recipe: Mapped[str | None] = mapped_column(default=None)
    base: Mapped[str | None] = mapped_column(default=None)
    rank: Mapped[int] = mapped_column(default=0)
    framework: Mapped[str]
    framework_version: Mapped[str]
    python: Mapped[str]
    cuda: Mapped[str]
    apps: Mapped[list[App]]
    status: Mapped[str]
    progress: Mapped[float | None] = mapped_column(default=None)
    message: Mapped[dict[str, str] | None] = mapped_column(default=None)
    digest: Mapped[str | None] = mapped_column(default=None)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger, default=None)
    locked: Mapped[bool]
    source_image_id: Mapped[UUID | None] = mapped_column(default=None)
    instance_id: Mapped[UUID | None] = mapped_column(default=None)
    builder: Mapped[str | None] = mapped_column(default=None)
    host_id: Mapped[UUID | None] = mapped_column(default=None)
    manifest_gone_at: Mapped[datetime | None] = mapped_column(default=None)
    created_at: Mapped[datetime]
    heard_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None] = mapped_column(default=None)
