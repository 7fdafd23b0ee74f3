"""Does each balance still last for what runs, and how far? When not, the scheduler is told to stop
it; how far is what hosts go by that are cut off."""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.booking import lock_wallet
from services.market.domain.authorisation import AuthorisationState
from services.market.domain.metering import ZERO, probably_ran_until, whole_seconds
from services.market.domain.reach import is_news, reach
from services.market.domain.wallet import Running, is_covered
from services.market.models import Authorisation, Wallet
from services.market.repository import authorisations as promises
from services.market.settings import MarketSettings
from services.market.tools import Tools
from shared.clock import utc_now
from shared.events.market import WalletExhausted, WalletReaches
from shared.outbox import emit

log = structlog.get_logger(__name__)


async def watch_balances(tools: Tools) -> None:
    """One pass over all accounts that run something; each in a transaction of its own."""
    async with tools.database.transaction() as session:
        accounts = await promises.accounts_running(session)
    for account_id in accounts:
        try:
            async with tools.database.transaction() as session:
                await watch_balance(session, tools.settings, account_id, utc_now())
        except Exception:
            log.exception("watch_failed", account_id=str(account_id))


async def watch_balance(
    session: AsyncSession, settings: MarketSettings, account_id: UUID, now: datetime
) -> None:
    """Tells an exhausted wallet; not again for a while, unless its money changed meanwhile."""
    wallet = await lock_wallet(session, account_id)
    fresh = timedelta(seconds=settings.proof_fresh_s)
    active = await promises.active_of(session, account_id)
    running = [_running(each, now, fresh) for each in active]
    await _tell_reach(session, wallet, running, now)
    if is_covered(wallet.balance, running, settings.watch_s):
        wallet.exhausted_told_at = None
        return
    told = wallet.exhausted_told_at
    if told is not None and now - told < timedelta(seconds=settings.exhausted_again_s):
        return
    wallet.exhausted_told_at = now
    await emit(session, WalletExhausted(account_id=account_id), subject=account_id)
    log.warning("wallet_exhausted", account_id=str(account_id), balance=str(wallet.balance))


async def tell_reach(
    session: AsyncSession, settings: MarketSettings, wallet: Wallet, now: datetime
) -> None:
    """Needs the wallet's lock. How far its money reaches, where that is news."""
    await _tell_reach(session, wallet, await _all_running(session, settings, wallet, now), now)


async def reach_with(
    session: AsyncSession,
    settings: MarketSettings,
    wallet: Wallet,
    starting: Authorisation,
    now: datetime,
) -> datetime | None:
    """Until when the money pays for all that runs and for this start beside it."""
    running = await _all_running(session, settings, wallet, now)
    is_new = starting.state == AuthorisationState.open
    price = starting.price_per_hour if is_new else ZERO
    return reach(wallet.balance, running, now, starting=price)


async def _all_running(
    session: AsyncSession, settings: MarketSettings, wallet: Wallet, now: datetime
) -> list[Running]:
    fresh = timedelta(seconds=settings.proof_fresh_s)
    active = await promises.active_of(session, wallet.account_id)
    return [_running(each, now, fresh) for each in active]


async def _tell_reach(
    session: AsyncSession, wallet: Wallet, running: list[Running], now: datetime
) -> None:
    until = reach(wallet.balance, running, now)
    if until is None or not is_news(wallet.reach_told, wallet.reach_told_at, until, now):
        return
    wallet.reach_told, wallet.reach_told_at = until, now
    payload = WalletReaches(account_id=wallet.account_id, paid_until=until)
    await emit(session, payload, subject=wallet.account_id)


def _running(authorisation: Authorisation, now: datetime, fresh: timedelta) -> Running:
    started, proven = authorisation.started_at, authorisation.proven_until
    if started is None or proven is None:
        raise LookupError(f"{authorisation.id} is active and has no start")
    until = probably_ran_until(proven, now, fresh)
    seconds = whole_seconds(started, until)
    return Running(authorisation.price_per_hour, seconds, authorisation.billed)
