"""What people look at: their wallet, what moved in it, and their bills."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.market.booking import lock_wallet
from services.market.domain.authorisation import AuthorisationState
from services.market.domain.metering import total_due, whole_seconds
from services.market.errors import UnknownWallet
from services.market.models import Authorisation, Wallet
from services.market.repository import authorisations as promises
from services.market.repository import wallets
from services.market.repository.wallets import Movement
from shared.pagination import PageRequest, fetch_page


async def own_wallet(session: AsyncSession, account_id: UUID) -> Wallet:
    """Made by the first look, where the event that makes it has not come yet."""
    found = await wallets.find_wallet(session, account_id)
    return found or await lock_wallet(session, account_id)


async def any_wallet(session: AsyncSession, account_id: UUID) -> Wallet:
    """Raises UnknownWallet."""
    found = await wallets.find_wallet(session, account_id)
    if found is None:
        raise UnknownWallet
    return found


async def list_movements(
    session: AsyncSession, account_id: UUID, paging: PageRequest
) -> tuple[list[Movement], int]:
    """Newest first."""
    return await wallets.list_movements(session, account_id, paging)


@dataclass(frozen=True, slots=True)
class Bill:
    """What one run costs. While it runs (not settled): what is proven so far."""

    authorisation: Authorisation
    started_at: datetime
    seconds: int
    amount: Decimal
    settled: bool


async def list_bills(
    session: AsyncSession, account_id: UUID, paging: PageRequest
) -> tuple[list[Bill], int]:
    """Newest first."""
    rows, total = await fetch_page(session, promises.bills_of(account_id), paging)
    return [_bill(row) for row in rows], total


def _bill(row: Authorisation) -> Bill:
    if row.started_at is None:
        raise LookupError(f"{row.id} has a bill and no start")
    settled = row.state == AuthorisationState.closed
    until = row.stopped_at if settled else row.proven_until
    seconds = whole_seconds(row.started_at, until or row.started_at)
    amount = row.billed if settled else max(row.billed, total_due(row.price_per_hour, seconds))
    return Bill(row, row.started_at, seconds, amount, settled)
