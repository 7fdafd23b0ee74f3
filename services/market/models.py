"""Tables of the market."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from services.market.domain.authorisation import AuthorisationState
from shared.database import new_metadata
from shared.platform_tables import define_platform_tables

STATES = ", ".join(f"'{state}'" for state in AuthorisationState)

# The platform's own accounts of the ledger; the first migration makes them.
INCOME = UUID("00000000-0000-7000-8000-000000000001")
TOP_UPS = UUID("00000000-0000-7000-8000-000000000002")


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    metadata = new_metadata()
    type_annotation_map = {datetime: DateTime(timezone=True), Decimal: Numeric(18, 4)}  # noqa: RUF012 - SQLAlchemy reads it


define_platform_tables(Base.metadata)


class Host(Base, kw_only=True):
    """The scheduler's node as it last told it. sequence: of that telling; older ones are refused.
    cuda_rank: orders `max_cuda`."""

    __tablename__ = "hosts"
    __table_args__ = (Index(None, "gpu_model"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    region: Mapped[str]
    state: Mapped[str]
    simulated: Mapped[bool]
    gpu_model: Mapped[str]
    gpu_memory_gb: Mapped[int]
    gpu_total: Mapped[int]
    gpu_free: Mapped[int]
    cpu_model: Mapped[str]
    cpu_cores: Mapped[float]
    memory_gb: Mapped[int]
    disk_gb: Mapped[int] = mapped_column(BigInteger)
    driver_version: Mapped[str]
    max_cuda: Mapped[str]
    cuda_rank: Mapped[int]
    tflops: Mapped[float]


class PriceRow(Base, kw_only=True):
    """An operator's price of a model. no_card_price_per_hour: None for the settings' one."""

    __tablename__ = "prices"
    __table_args__ = (
        CheckConstraint("price_per_hour > 0", name="price_per_hour"),
        CheckConstraint("list_price_per_hour >= price_per_hour", name="list_price_per_hour"),
        CheckConstraint("no_card_price_per_hour > 0", name="no_card_price_per_hour"),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    list_price_per_hour: Mapped[Decimal]
    price_per_hour: Mapped[Decimal]
    no_card_price_per_hour: Mapped[Decimal | None]
    changed_at: Mapped[datetime]
    changed_by: Mapped[UUID]


class LedgerAccount(Base, kw_only=True):
    """A wallet's has the id of its owner."""

    __tablename__ = "ledger_accounts"
    __table_args__ = (CheckConstraint("kind IN ('wallet', 'income', 'top_ups')", name="kind"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Wallet(Base, kw_only=True):
    """balance: the sum of its entries, changed in their transaction under this row's lock.
    held: the sum of its authorisations' holds. exhausted_told_at: None while the money lasts.
    reach_told, reach_told_at: until when it was told to last, and when that was told."""

    __tablename__ = "wallets"
    __table_args__ = (CheckConstraint("held >= 0", name="held"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_accounts.id"), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(default=Decimal(0))
    held: Mapped[Decimal] = mapped_column(default=Decimal(0))
    exhausted_told_at: Mapped[datetime | None] = mapped_column(default=None)
    reach_told: Mapped[datetime | None] = mapped_column(default=None)
    reach_told_at: Mapped[datetime | None] = mapped_column(default=None)
    created_at: Mapped[datetime]


class Authorisation(Base, kw_only=True):
    """A promise to pay for one run of one instance, at a price fixed when it was made.

    held: of the wallet, now. stopped_at: may be known before started_at, when the stop overtook.
    proven_until: the newest moment at which the agent's report showed it running.
    billed: debited so far; billed_until: for the time up to here.
    """

    __tablename__ = "authorisations"
    __table_args__ = (
        CheckConstraint(f"state IN ({STATES})", name="state"),
        CheckConstraint("mode IN ('gpu', 'cpu')", name="mode"),
        CheckConstraint("held >= 0", name="held"),
        CheckConstraint("held = 0 OR state IN ('open', 'active')", name="hold_ends"),
        CheckConstraint(
            "state NOT IN ('active', 'closed') OR started_at IS NOT NULL", name="started"
        ),
        CheckConstraint("state <> 'closed' OR stopped_at IS NOT NULL", name="stopped"),
        Index("ix_authorisations_account_id_started_at", "account_id", "started_at"),
        Index("ix_authorisations_state_expires_at", "state", "expires_at"),
        Index(None, "instance_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("wallets.account_id"))
    instance_id: Mapped[UUID]
    node_id: Mapped[UUID]
    node_name: Mapped[str]
    gpu_model: Mapped[str]
    gpu_count: Mapped[int]
    mode: Mapped[str]
    price_per_hour: Mapped[Decimal]
    state: Mapped[str]
    held: Mapped[Decimal]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    proven_until: Mapped[datetime | None] = mapped_column(default=None)
    stopped_at: Mapped[datetime | None] = mapped_column(default=None)
    billed: Mapped[Decimal] = mapped_column(default=Decimal(0))
    billed_until: Mapped[datetime | None] = mapped_column(default=None)


class EarlyStop(Base, kw_only=True):
    """A run that went on after its host's loss was told to have stopped before it was told to go
    on: kept until then."""

    __tablename__ = "early_stops"

    authorisation_id: Mapped[UUID] = mapped_column(primary_key=True)
    stopped_at: Mapped[datetime]


class LedgerTransaction(Base, kw_only=True):
    """One movement of money. The database refuses to change or delete it.

    authorisation_id, paid_until: what a usage debit pays for, and up to when.
    corrects_id: the original that a correction names. actor_id: None when the platform did it.
    """

    __tablename__ = "ledger_transactions"
    __table_args__ = (
        CheckConstraint("kind IN ('credit', 'usage', 'correction')", name="kind"),
        CheckConstraint("(kind = 'correction') = (corrects_id IS NOT NULL)", name="corrects"),
        CheckConstraint("kind <> 'usage' OR paid_until IS NOT NULL", name="usage"),
        CheckConstraint("(paid_until IS NULL) OR (authorisation_id IS NOT NULL)", name="paid"),
        UniqueConstraint("authorisation_id", "paid_until"),
        Index(None, "corrects_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    note: Mapped[str]
    authorisation_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("authorisations.id"), default=None
    )
    paid_until: Mapped[datetime | None] = mapped_column(default=None)
    corrects_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("ledger_transactions.id"), default=None
    )
    actor_id: Mapped[UUID | None] = mapped_column(default=None)


class LedgerEntry(Base, kw_only=True):
    """One side of a movement. balance_after: of the wallet; None for the platform's accounts."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount"),
        UniqueConstraint("transaction_id", "ledger_account_id"),
        Index("ix_ledger_entries_ledger_account_id_position", "ledger_account_id", "position"),
    )

    position: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), primary_key=True, init=False
    )
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_transactions.id"))
    ledger_account_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_accounts.id"))
    amount: Mapped[Decimal]
    balance_after: Mapped[Decimal | None]
