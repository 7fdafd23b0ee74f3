"""What running time costs. Each debit is a difference of the rounded total since the start, so
that any splitting of a segment sums to exactly one settlement of the whole."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

UNIT = Decimal("0.0001")
MINIMUM = Decimal("0.0100")


def whole_seconds(started_at: datetime, until: datetime) -> int:
    """Never negative; a begun second is not billed."""
    return max(0, (until - started_at) // timedelta(seconds=1))


def total_due(price_per_hour: Decimal, seconds: int) -> Decimal:
    """Of a segment since its start; at least MINIMUM once a second has run at a price."""
    if seconds <= 0 or price_per_hour <= 0:
        return Decimal("0.0000")
    exact = price_per_hour * seconds / 3600
    return max(MINIMUM, exact.quantize(UNIT, ROUND_HALF_UP))


def debit_due(price_per_hour: Decimal, seconds: int, already_billed: Decimal) -> Decimal:
    """Never negative: late or doubled proofs cannot give money back."""
    return max(Decimal("0.0000"), total_due(price_per_hour, seconds) - already_billed)
