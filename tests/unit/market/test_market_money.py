"""Metering and the ledger hold for every input."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.domain.ledger import Entry, Unbalanced, balances, require_balanced, transfer
from services.market.domain.metering import MINIMUM, debit_due, total_due
from shared.ids import new_id

prices = st.decimals(min_value="0.0001", max_value="9999", places=4)


@given(price=prices, parts=st.lists(st.integers(0, 100_000), max_size=30))
def test_split_settlement_sums_to_one_settlement(price: Decimal, parts: list[int]) -> None:
    billed, seconds = Decimal(0), 0
    for part in parts:
        seconds += part
        billed += debit_due(price, seconds, billed)
    assert billed == total_due(price, seconds)


@given(price=prices, seconds=st.integers(1, 10**8))
def test_a_run_costs_at_least_the_minimum(price: Decimal, seconds: int) -> None:
    assert total_due(price, seconds) >= MINIMUM


@given(amount=prices)
def test_a_transfer_sums_to_zero(amount: Decimal) -> None:
    entries = transfer(new_id(), new_id(), amount)
    require_balanced(entries)
    assert sum(balances(entries).values()) == 0


def test_an_unbalanced_transaction_is_refused() -> None:
    with pytest.raises(Unbalanced):
        require_balanced([Entry(new_id(), Decimal(1)), Entry(new_id(), Decimal(2))])
