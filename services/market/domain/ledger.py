"""Double entry: every transaction moves money between accounts and sums to zero."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID


class Unbalanced(ValueError):
    """A bug of ours, never a user's mistake."""


@dataclass(frozen=True, slots=True)
class Entry:
    ledger_account_id: UUID
    amount: Decimal


def transfer(source: UUID, target: UUID, amount: Decimal) -> tuple[Entry, Entry]:
    """Raises Unbalanced unless amount is positive and the accounts differ."""
    if amount <= 0 or source == target:
        raise Unbalanced(f"{amount} from {source} to {target}")
    return Entry(source, -amount), Entry(target, amount)


def require_balanced(entries: Sequence[Entry]) -> None:
    """Raises Unbalanced."""
    if len(entries) < 2 or sum((e.amount for e in entries), Decimal(0)) != 0:
        raise Unbalanced(str(entries))


def balances(entries: Iterable[Entry]) -> dict[UUID, Decimal]:
    totals: dict[UUID, Decimal] = {}
    for entry in entries:
        previous = totals.get(entry.ledger_account_id, Decimal(0))
        totals[entry.ledger_account_id] = previous + entry.amount
    return totals
