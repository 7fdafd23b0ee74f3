"""How much of a wallet is promised, and whether it lasts."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from services.market.domain.metering import ZERO, debit_due

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Running:
    """One active authorisation. seconds: it has run; billed: of them, in 元."""

    price_per_hour: Decimal
    seconds: int
    billed: Decimal


def available(balance: Decimal, held: Decimal) -> Decimal:
    """What a new start may be promised. An overdrawn wallet has nothing, not less."""
    return max(ZERO, balance - held)


def security(wanted: Decimal, balance: Decimal, held_by_others: Decimal) -> Decimal:
    """The hold that the money allows: `wanted`, or as much of it as nobody else holds."""
    return max(ZERO, min(wanted, balance - held_by_others))


def is_covered(balance: Decimal, running: Iterable[Running], ahead_s: float) -> bool:
    """Does the balance reach for what has run and is not billed, and for `ahead_s` more?"""
    needed = ZERO
    for one in running:
        needed += debit_due(one.price_per_hour, one.seconds, one.billed)
        needed += one.price_per_hour * Decimal(ahead_s) / SECONDS_PER_HOUR
    return balance >= needed
