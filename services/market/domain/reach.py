"""How far an account's money reaches for all that it runs, and when that is worth telling."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from services.market.domain.metering import ZERO, debit_due
from services.market.domain.wallet import SECONDS_PER_HOUR, Running

# Further than anybody plans, and well within what a date can say.
FURTHEST_S = 10 * 365 * 86400
CHANGE = Decimal("0.1")
AGAIN = timedelta(hours=1)


def reach(
    balance: Decimal, running: Iterable[Running], now: datetime, *, starting: Decimal = ZERO
) -> datetime | None:
    """Until when the balance pays for all that runs, less what has run and is not billed yet.
    starting: price an hour of one that is about to run too. None: nothing costs anything."""
    price, left = starting, balance
    for one in running:
        price += one.price_per_hour
        left -= debit_due(one.price_per_hour, one.seconds, one.billed)
    if price <= 0:
        return None
    seconds = min(int(max(ZERO, left) * SECONDS_PER_HOUR / price), FURTHEST_S)
    return now + timedelta(seconds=seconds)


def is_news(
    told: datetime | None, told_at: datetime | None, until: datetime, now: datetime
) -> bool:
    """Never told, an hour ago, or by more than a tenth of the time that was left."""
    if told is None or told_at is None or now - told_at >= AGAIN:
        return True
    left_s = Decimal(max(0.0, (told - now).total_seconds()))
    return Decimal(abs((until - told).total_seconds())) > left_s * CHANGE
