"""What running time costs. Each debit is a difference of the rounded total since the start, so
that any splitting of a segment sums to exactly one settlement of the whole."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

UNIT = Decimal("0.0001")
MINIMUM = Decimal("0.0100")
ZERO = Decimal("0.0000")


def whole_seconds(started_at: datetime, until: datetime) -> int:
    """Never negative; a begun second is not billed."""
    return max(0, (until - started_at) // timedelta(seconds=1))


def total_due(price_per_hour: Decimal, seconds: int) -> Decimal:
    """Of a segment since its start; at least MINIMUM once a second has run at a price."""
    if seconds <= 0 or price_per_hour <= 0:
        return ZERO
    exact = price_per_hour * seconds / 3600
    return max(MINIMUM, exact.quantize(UNIT, ROUND_HALF_UP))


def debit_due(price_per_hour: Decimal, seconds: int, already_billed: Decimal) -> Decimal:
    """While it runs. Never negative: late or doubled proofs cannot give money back."""
    return max(ZERO, final_difference(price_per_hour, seconds, already_billed))


def final_difference(price_per_hour: Decimal, seconds: int, already_billed: Decimal) -> Decimal:
    """At the stop. Negative when time after the stop was billed: that goes back."""
    return total_due(price_per_hour, seconds) - already_billed


def floor_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def payable_until(proven_until: datetime, now: datetime, grace: timedelta) -> datetime | None:
    """Until when a running segment may be debited now: what is proven up to the last clock hour.
    None while the proof of that hour may still come, at most `grace` after it."""
    hour = floor_hour(now)
    if proven_until < hour and now < hour + grace:
        return None
    return min(proven_until, hour)


def probably_ran_until(proven_until: datetime, now: datetime, fresh: timedelta) -> datetime:
    """For the question whether money still lasts, never for a debit: proofs come in steps, so a
    segment whose last proof is fresh is taken to run on; one of a silent host is not."""
    return max(proven_until, now) if now - proven_until <= fresh else proven_until
