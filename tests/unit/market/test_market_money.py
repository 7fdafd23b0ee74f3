"""Metering, holds and the ledger hold for every input."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.domain.ledger import Entry, Unbalanced, balances, require_balanced, transfer
from services.market.domain.metering import (
    MINIMUM,
    debit_due,
    final_difference,
    floor_hour,
    payable_until,
    probably_ran_until,
    total_due,
    whole_seconds,
)
from services.market.domain.pricing import Price, instance_price
from services.market.domain.wallet import Running, available, is_covered, security
from shared.ids import new_id

prices = st.decimals(min_value="0.0001", max_value="9999", places=4)
money = st.decimals(min_value="-9999", max_value="9999", places=4)
HOUR = datetime(2026, 3, 2, 10, tzinfo=UTC)
GRACE = timedelta(seconds=120)


@given(price=prices, parts=st.lists(st.integers(0, 100_000), max_size=30))
def test_split_settlement_sums_to_one_settlement(price: Decimal, parts: list[int]) -> None:
    billed, seconds = Decimal(0), 0
    for part in parts:
        seconds += part
        billed += debit_due(price, seconds, billed)
    assert billed == total_due(price, seconds)


@given(price=prices, billed_s=st.integers(0, 100_000), final_s=st.integers(0, 100_000))
def test_whatever_was_billed_before_the_final_difference_leaves_one_settlement(
    price: Decimal, billed_s: int, final_s: int
) -> None:
    billed = debit_due(price, billed_s, Decimal(0))
    assert billed + final_difference(price, final_s, billed) == total_due(price, final_s)


@given(price=prices, seconds=st.integers(0, 10**6), billed=money)
def test_while_it_runs_nothing_is_given_back(price: Decimal, seconds: int, billed: Decimal) -> None:
    assert debit_due(price, seconds, billed) >= 0


@given(price=prices, seconds=st.integers(1, 10**8))
def test_a_run_costs_at_least_the_minimum(price: Decimal, seconds: int) -> None:
    assert total_due(price, seconds) >= MINIMUM


def test_what_never_ran_costs_nothing() -> None:
    assert total_due(Decimal("1.88"), 0) == 0
    assert whole_seconds(HOUR, HOUR - timedelta(hours=1)) == 0
    assert whole_seconds(HOUR, HOUR + timedelta(milliseconds=999)) == 0


def test_an_hour_costs_its_price_to_the_fourth_decimal() -> None:
    assert total_due(Decimal("1.8888"), 3600) == Decimal("1.8888")
    assert total_due(Decimal("1.0000"), 3599) == Decimal("0.9997")


@pytest.mark.parametrize(
    ("proven_s", "now_s", "payable_s"),
    [(-30, 10, None), (-30, 120, -30), (15, 20, 0), (0, 0, 0), (3500, 3500, 0)],
)
def test_an_hour_is_payable_when_proven_or_when_its_proof_is_late(
    proven_s: int, now_s: int, payable_s: int | None
) -> None:
    proven, now = HOUR + timedelta(seconds=proven_s), HOUR + timedelta(seconds=now_s)
    wanted = None if payable_s is None else HOUR + timedelta(seconds=payable_s)
    assert payable_until(proven, now, GRACE) == wanted


def test_a_clock_hour_begins_at_its_full_hour() -> None:
    assert floor_hour(HOUR + timedelta(minutes=59, microseconds=1)) == HOUR
    assert floor_hour(HOUR) == HOUR


def test_only_a_fresh_proof_is_taken_to_run_on() -> None:
    fresh = timedelta(seconds=90)
    for age_s, later in ((90, 90), (91, 0), (-5, 0)):
        now = HOUR + timedelta(seconds=age_s)
        assert probably_ran_until(HOUR, now, fresh) == HOUR + timedelta(seconds=later)


@given(wanted=prices, balance=money, held_by_others=prices)
def test_a_hold_never_takes_what_is_not_there_or_is_held_by_another(
    wanted: Decimal, balance: Decimal, held_by_others: Decimal
) -> None:
    held = security(wanted, balance, held_by_others)
    assert 0 <= held <= wanted
    assert held == 0 or held + held_by_others <= balance


@given(balance=money, held=prices)
def test_available_is_never_negative_nor_more_than_is_free(balance: Decimal, held: Decimal) -> None:
    assert available(balance, held) == max(Decimal(0), balance - held)


def test_a_balance_covers_what_ran_unbilled_and_what_comes_next() -> None:
    running = [
        Running(Decimal("3.6"), 1000, Decimal("0.4")),
        Running(Decimal("3.6"), 100, Decimal(0)),
    ]
    needed = Decimal("0.6") + Decimal("0.1") + 2 * Decimal("0.06")
    assert is_covered(needed, running, 60)
    assert not is_covered(needed - Decimal("0.0001"), running, 60)
    assert is_covered(Decimal(0), [], 60)


def test_no_card_mode_costs_the_same_however_many_cards_stay_on_record() -> None:
    price = Price(listed=Decimal("2.18"), card=Decimal("1.88"), no_card=Decimal("0.10"))
    assert instance_price(price, "gpu", 4) == Decimal("7.52")
    assert instance_price(price, "cpu", 4) == Decimal("0.10")


@given(amount=prices)
def test_a_transfer_sums_to_zero(amount: Decimal) -> None:
    entries = transfer(new_id(), new_id(), amount)
    require_balanced(entries)
    assert sum(balances(entries).values()) == 0


def test_an_unbalanced_transaction_is_refused() -> None:
    with pytest.raises(Unbalanced):
        require_balanced([Entry(new_id(), Decimal(1)), Entry(new_id(), Decimal(2))])


@pytest.mark.parametrize("amount", ["0", "-1"])
def test_nothing_cannot_be_transferred(amount: str) -> None:
    with pytest.raises(Unbalanced):
        transfer(new_id(), new_id(), Decimal(amount))


def test_nobody_pays_themselves() -> None:
    account = new_id()
    with pytest.raises(Unbalanced):
        transfer(account, account, Decimal(1))
