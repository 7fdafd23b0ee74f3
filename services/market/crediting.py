"""Operators put money into wallets, and take back what was a mistake."""

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.market.booking import Reason, book, secure_all
from services.market.errors import NotCorrectable, UnknownTransaction, UnknownWallet
from services.market.models import TOP_UPS, LedgerTransaction, Wallet
from services.market.repository import wallets
from services.market.tools import Tools
from services.market.watching import tell_reach
from shared.clock import utc_now
from shared.events.market import WalletCorrected, WalletCredited
from shared.outbox import emit

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Booked:
    """amount: as the wallet got it."""

    transaction: LedgerTransaction
    amount: Decimal
    wallet: Wallet


async def await_wallet(tools: Tools, account_id: UUID) -> None:
    """An account's wallet comes with an event a moment after its approval; this waits that moment,
    with no transaction open. Raises UnknownWallet."""
    deadline = time.monotonic() + tools.settings.wallet_patience_s
    while not await _has_wallet(tools, account_id):
        if time.monotonic() >= deadline:
            raise UnknownWallet
        await asyncio.sleep(POLL_S)


async def _has_wallet(tools: Tools, account_id: UUID) -> bool:
    async with tools.database.transaction() as session:
        return await wallets.find_wallet(session, account_id) is not None


async def credit(
    session: AsyncSession, tools: Tools, account_id: UUID, amount: Decimal, note: str, by: UUID
) -> Booked:
    """Raises UnknownWallet."""
    wallet = await _locked(session, account_id)
    transaction = await book(session, wallet, amount, TOP_UPS, Reason("credit", note, actor_id=by))
    await secure_all(session, wallet)
    wallet.exhausted_told_at = None
    await tell_reach(session, tools.settings, wallet, utc_now())
    payload = WalletCredited(
        account_id=account_id, transaction_id=transaction.id, amount=amount, note=note, by=by
    )
    await emit(session, payload, subject=account_id, actor=by)
    return Booked(transaction, amount, wallet)


async def correct(
    session: AsyncSession,
    tools: Tools,
    account_id: UUID,
    transaction_id: UUID,
    note: str,
    by: UUID,
) -> Booked:
    """A new entry undoes what is left of the original, and names it. Raises UnknownWallet,
    UnknownTransaction, NotCorrectable."""
    wallet = await _locked(session, account_id)
    original = await wallets.find_transaction(session, transaction_id, account_id)
    if original is None:
        raise UnknownTransaction(field="transaction_id")
    sides = await wallets.sides(session, transaction_id)
    left = sides.pop(account_id, Decimal(0))
    if original.kind == "correction" or left == 0:
        raise NotCorrectable(field="transaction_id")
    (other,) = sides
    reason = Reason("correction", note, corrects_id=transaction_id, actor_id=by)
    transaction = await book(session, wallet, -left, other, reason)
    await secure_all(session, wallet)
    wallet.exhausted_told_at = None
    await tell_reach(session, tools.settings, wallet, utc_now())
    payload = WalletCorrected(
        account_id=account_id, transaction_id=transaction.id, corrects_id=transaction_id,
        amount=-left, note=note, by=by,
    )  # fmt: skip
    await emit(session, payload, subject=account_id, actor=by)
    return Booked(transaction, -left, wallet)


async def _locked(session: AsyncSession, account_id: UUID) -> Wallet:
    wallet = await wallets.find_wallet(session, account_id, lock=True)
    if wallet is None:
        raise UnknownWallet
    return wallet
