"""Wallets and the ledger. Whoever changes a wallet's money holds the lock of its row."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.models import LedgerAccount, LedgerEntry, LedgerTransaction, Wallet
from shared.pagination import PageRequest


async def ensure_wallet(session: AsyncSession, account_id: UUID, now: datetime) -> None:
    """Empty, unless the account has one."""
    account = insert(LedgerAccount).values(id=account_id, kind="wallet")
    await session.execute(account.on_conflict_do_nothing())
    wallet = insert(Wallet).values(
        account_id=account_id, balance=Decimal(0), held=Decimal(0), created_at=now
    )
    await session.execute(wallet.on_conflict_do_nothing())


async def find_wallet(
    session: AsyncSession, account_id: UUID, *, lock: bool = False
) -> Wallet | None:
    """lock: nobody else moves its money until this transaction ends."""
    return await session.get(
        Wallet, account_id, with_for_update=lock or None, populate_existing=True
    )


async def write_transaction(
    session: AsyncSession, transaction: LedgerTransaction, entries: list[LedgerEntry]
) -> None:
    session.add(transaction)
    await session.flush()
    for entry in entries:
        session.add(entry)
        await session.flush()


@dataclass(frozen=True, slots=True)
class Movement:
    """An entry of a wallet with what it belongs to."""

    transaction: LedgerTransaction
    amount: Decimal
    balance_after: Decimal


async def list_movements(
    session: AsyncSession, account_id: UUID, paging: PageRequest
) -> tuple[list[Movement], int]:
    """Newest first."""
    mine = LedgerEntry.ledger_account_id == account_id
    count = select(func.count()).select_from(LedgerEntry).where(mine)
    total = (await session.execute(count)).scalar_one()
    statement = (
        select(LedgerTransaction, LedgerEntry.amount, LedgerEntry.balance_after)
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .where(mine)
        .order_by(LedgerEntry.position.desc())
        .offset(paging.offset)
        .limit(paging.size)
    )
    rows = await session.execute(statement)
    return [Movement(t, amount, after) for t, amount, after in rows if after is not None], total


async def newest_debit(session: AsyncSession, authorisation_id: UUID) -> UUID | None:
    statement = (
        select(LedgerTransaction.id)
        .where(
            LedgerTransaction.authorisation_id == authorisation_id,
            LedgerTransaction.kind == "usage",
        )
        .order_by(LedgerTransaction.paid_until.desc())
        .limit(1)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def find_transaction(
    session: AsyncSession, transaction_id: UUID, account_id: UUID
) -> LedgerTransaction | None:
    """One that moved this wallet's money."""
    statement = (
        select(LedgerTransaction)
        .join(LedgerEntry, LedgerEntry.transaction_id == LedgerTransaction.id)
        .where(LedgerTransaction.id == transaction_id, LedgerEntry.ledger_account_id == account_id)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def sides(session: AsyncSession, transaction_id: UUID) -> dict[UUID, Decimal]:
    """Amounts by ledger account of a transaction and all that corrects it, together."""
    transactions = select(LedgerTransaction.id).where(
        (LedgerTransaction.id == transaction_id) | (LedgerTransaction.corrects_id == transaction_id)
    )
    statement = (
        select(LedgerEntry.ledger_account_id, func.sum(LedgerEntry.amount))
        .where(LedgerEntry.transaction_id.in_(transactions))
        .group_by(LedgerEntry.ledger_account_id)
    )
    return dict(list(await session.execute(statement)))


_FAULTS = text(
    """
    WITH sums AS (
        SELECT ledger_account_id, sum(amount) AS total FROM ledger_entries GROUP BY 1
    ), holds AS (
        SELECT account_id, sum(held) AS total FROM authorisations GROUP BY 1
    )
    SELECT 'total' AS fault, NULL::uuid AS id, sum(total) AS found, 0::numeric AS wanted
    FROM sums HAVING sum(total) <> 0
    UNION ALL
    SELECT 'balance', w.account_id, w.balance, coalesce(s.total, 0)
    FROM wallets w LEFT JOIN sums s ON s.ledger_account_id = w.account_id
    WHERE w.balance <> coalesce(s.total, 0)
    UNION ALL
    SELECT 'held', w.account_id, w.held, coalesce(h.total, 0)
    FROM wallets w LEFT JOIN holds h USING (account_id) WHERE w.held <> coalesce(h.total, 0)
    UNION ALL
    SELECT 'transaction', t.id, coalesce(sum(e.amount), 0), 0
    FROM ledger_transactions t LEFT JOIN ledger_entries e ON e.transaction_id = t.id
    GROUP BY t.id HAVING count(e.position) < 2 OR sum(e.amount) <> 0
    UNION ALL
    SELECT 'billed', a.id, a.billed, coalesce(b.total, 0)
    FROM authorisations a LEFT JOIN (
        SELECT t.authorisation_id, -sum(e.amount) AS total
        FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
        JOIN wallets w ON w.account_id = e.ledger_account_id
        WHERE t.authorisation_id IS NOT NULL AND t.actor_id IS NULL GROUP BY 1
    ) b ON b.authorisation_id = a.id
    WHERE a.billed <> coalesce(b.total, 0)
    """
)


async def ledger_faults(session: AsyncSession) -> list[dict[str, Any]]:
    """Where a sum is not what it must be; empty when all is well. One statement, one snapshot."""
    return [dict(row) for row in (await session.execute(_FAULTS)).mappings()]


@dataclass(frozen=True, slots=True)
class Sums:
    """exhausted: wallets that were told to be empty and still are."""

    count: int
    balance: Decimal
    held: Decimal
    exhausted: int


async def sums(session: AsyncSession) -> Sums:
    """Of all wallets; for gauges."""
    statement = select(
        func.count(),
        func.coalesce(func.sum(Wallet.balance), Decimal(0)),
        func.coalesce(func.sum(Wallet.held), Decimal(0)),
        func.count(Wallet.exhausted_told_at),
    )
    return Sums(*(await session.execute(statement)).one())
