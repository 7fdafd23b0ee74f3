"""Tables of auth."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from services.auth.domain.account import AccountState
from services.auth.domain.session import EndReason
from services.auth.domain.subscriber import SubscriberState
from shared.database import new_metadata
from shared.platform_tables import define_platform_tables
from shared.tokens import Role


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    metadata = new_metadata()
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text()),
    }


define_platform_tables(Base.metadata)


class Account(Base, kw_only=True):
    """email: lower case. status_reason: the operator's words at the last move.
    version: rises with every move; `sequence` of its events."""

    __tablename__ = "accounts"
    __table_args__ = (
        UniqueConstraint("username"),
        UniqueConstraint("email"),
        CheckConstraint("role IN ('user', 'operator')", name="role"),
        CheckConstraint("status IN ('pending', 'active', 'rejected', 'disabled')", name="status"),
        Index("ix_accounts_status_created_at", "status", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str]
    email: Mapped[str]
    phone: Mapped[str]
    organisation: Mapped[str]
    purpose: Mapped[str]
    password_hash: Mapped[str] = mapped_column(repr=False)
    role: Mapped[str] = mapped_column(default=Role.user.value)
    status: Mapped[str] = mapped_column(default=AccountState.pending.value)
    status_reason: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column(BigInteger, default=1)
    created_at: Mapped[datetime]

    @property
    def state(self) -> AccountState:
        return AccountState(self.status)


class LoginSession(Base, kw_only=True):
    """One login: the family of refresh tokens that follow one another."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "account_id"),
        Index(None, "expires_at"),
        Index("ix_sessions_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    address: Mapped[str]
    user_agent: Mapped[str]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    end_reason: Mapped[str | None] = mapped_column(default=None)

    def end(self, reason: EndReason, now: datetime) -> None:
        if self.ended_at is None:
            self.ended_at = now
            self.end_reason = reason.value


class RefreshToken(Base, kw_only=True):
    """used_at: when its successor was first given out."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index(None, "session_id"),)

    fingerprint: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    issued_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)


class SshKey(Base, kw_only=True):
    """public_key: `type base64`, without the comment that came with it."""

    __tablename__ = "ssh_keys"
    __table_args__ = (UniqueConstraint("account_id", "fingerprint"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]
    public_key: Mapped[str]
    fingerprint: Mapped[str]
    created_at: Mapped[datetime]


class AuditEntry(Base, kw_only=True):
    """One fact as it was told. The database refuses to change or delete it."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index(None, "at"), Index(None, "actor_id"), Index(None, "subject"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    source: Mapped[str]
    type: Mapped[str]
    subject: Mapped[str]
    actor_id: Mapped[UUID | None]
    data: Mapped[dict[str, Any]]


class OutsideSubscriber(Base, kw_only=True):
    """A program that hears facts. confirmed_at: when the broker last took it as the state says;
    trouble: why it last did not. claimed_until: somebody is telling the broker."""

    __tablename__ = "outside_subscribers"
    __table_args__ = (
        CheckConstraint("state IN ('wanted', 'standing', 'dismissed', 'gone')", name="state"),
        Index(
            "uq_outside_subscribers_name", "name", unique=True,
            postgresql_where=text("state <> 'gone'"),
        ),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    patterns: Mapped[list[str]]
    state: Mapped[str] = mapped_column(default=SubscriberState.wanted.value)
    trouble: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None] = mapped_column(default=None)
    claimed_until: Mapped[datetime | None] = mapped_column(default=None)

    @property
    def status(self) -> SubscriberState:
        return SubscriberState(self.state)
