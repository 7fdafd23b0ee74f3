"""Money moves here and nowhere else: wallet balance, ledger and holds in one transaction.

Everything in this module needs the wallet's lock.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.domain.ledger import require_balanced, transfer
from services.market.domain.wallet import security
from services.market.models import Authorisation, LedgerEntry, LedgerTransaction, Wallet
from services.market.repository import authorisations as promises
from services.market.repository import wallets
from shared.clock import utc_now
from shared.ids import new_id

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why money moves; the fields of `LedgerTransaction`."""

    kind: Literal["credit", "usage", "correction"]
    note: str
    authorisation_id: UUID | None = None
    paid_until: datetime | None = None
    corrects_id: UUID | None = None
    actor_id: UUID | None = None


async def lock_wallet(session: AsyncSession, account_id: UUID) -> Wallet:
    """The account's wallet with its lock; a new one where there is none."""
    wallet = await wallets.find_wallet(session, account_id, lock=True)
    if wallet is None:
        await wallets.ensure_wallet(session, account_id, utc_now())
        wallet = await wallets.find_wallet(session, account_id, lock=True)
    if wallet is None:
        raise LookupError(f"wallet {account_id} is neither there nor made")
    return wallet


async def book(
    session: AsyncSession, wallet: Wallet, amount: Decimal, other: UUID, reason: Reason
) -> LedgerTransaction:
    """amount: what the wallet gets, negative for a debit. other: the account on the other side.
    Raises Unbalanced for nothing to move."""
    source, target = (other, wallet.account_id) if amount > 0 else (wallet.account_id, other)
    entries = transfer(source, target, abs(amount))
    require_balanced(entries)
    transaction = LedgerTransaction(
        id=new_id(),
        at=utc_now(),
        kind=reason.kind,
        note=reason.note,
        authorisation_id=reason.authorisation_id,
        paid_until=reason.paid_until,
        corrects_id=reason.corrects_id,
        actor_id=reason.actor_id,
    )
    wallet.balance += amount
    rows = [
        LedgerEntry(
            transaction_id=transaction.id,
            ledger_account_id=entry.ledger_account_id,
            amount=entry.amount,
            balance_after=wallet.balance if entry.ledger_account_id == wallet.account_id else None,
        )
        for entry in entries
    ]
    await wallets.write_transaction(session, transaction, rows)
    log.info(
        "money_moved", account_id=str(wallet.account_id), kind=reason.kind, amount=str(amount),
        transaction_id=str(transaction.id),
    )  # fmt: skip
    return transaction


def hold(wallet: Wallet, authorisation: Authorisation, amount: Decimal) -> None:
    """From now on the authorisation holds so much of the wallet."""
    wallet.held += amount - authorisation.held
    authorisation.held = amount


def secure(wallet: Wallet, authorisation: Authorisation) -> None:
    """Hold an hour's price again, or what the money allows: a debit may have eaten into it."""
    others = wallet.held - authorisation.held
    hold(wallet, authorisation, security(authorisation.price_per_hour, wallet.balance, others))


async def secure_all(session: AsyncSession, wallet: Wallet) -> None:
    """New money first secures what already runs."""
    for authorisation in await promises.active_of(session, wallet.account_id, lock=True):
        secure(wallet, authorisation)
