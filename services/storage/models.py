"""Tables of storage."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from shared.database import new_metadata
from shared.platform_tables import define_platform_tables


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    metadata = new_metadata()


define_platform_tables(Base.metadata)


class VolumeRow(Base):
    """used_*: as counted last, with every write of ours since. reserved_bytes: promised to
    uploads under way."""

    __tablename__ = "volumes"
    __table_args__ = (
        CheckConstraint("quota_bytes >= 0 AND quota_files >= 0", name="quota"),
        CheckConstraint("used_bytes >= 0 AND used_files >= 0", name="used"),
        CheckConstraint("reserved_bytes >= 0", name="reserved"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    quota_bytes: Mapped[int] = mapped_column(BigInteger)
    quota_files: Mapped[int] = mapped_column(BigInteger)
    used_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    used_files: Mapped[int] = mapped_column(BigInteger, default=0)
    reserved_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    counted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), default=None)


class Promise(Base):
    """What one copy of storage has promised to uploads of one account; `reserved_bytes` of the
    volume is the sum of these."""

    __tablename__ = "promises"
    __table_args__ = (CheckConstraint("reserved_bytes >= 0", name="reserved"),)

    copy_id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    reserved_bytes: Mapped[int] = mapped_column(BigInteger)
