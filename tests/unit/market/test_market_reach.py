"""How far money reaches, and when that is news."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.domain.reach import FURTHEST_S, is_news, reach
from services.market.domain.wallet import Running, is_covered

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
money = st.decimals(0, 10_000, places=4)
runs = st.lists(
    st.builds(Running, st.decimals("0.01", 100, places=4), st.integers(0, 10**6), money),
    max_size=5,
)


def at(**elapsed: float) -> datetime:
    return NOW + timedelta(**elapsed)


def test_the_money_is_divided_by_all_that_runs_less_what_is_not_billed_yet() -> None:
    one = Running(Decimal(2), 1800, Decimal(0))
    assert reach(Decimal(5), [one], NOW) == at(hours=2)
    assert reach(Decimal(5), [one, Running(Decimal(2), 0, Decimal(0))], NOW) == at(hours=1)
    assert reach(Decimal(5), [one], NOW, starting=Decimal(2)) == at(hours=1)


def test_where_nothing_costs_anything_there_is_no_end_and_debts_reach_no_further_than_now() -> None:
    assert reach(Decimal(5), [], NOW) is None
    assert reach(Decimal(-5), [Running(Decimal(2), 60, Decimal(0))], NOW) == NOW
    assert reach(Decimal(10**12), [Running(Decimal("0.0001"), 0, Decimal(0))], NOW) == at(
        seconds=FURTHEST_S
    )


@given(money, runs)
def test_until_then_the_balance_covers_what_runs_and_a_while_later_no_more(
    balance: Decimal, running: list[Running]
) -> None:
    until = reach(balance, running, NOW)
    if until is None:
        return
    left_s = int((until - NOW).total_seconds())
    if left_s > 0:
        # Decimal divides with 28 digits; a tenth of a second is beyond doubt.
        assert is_covered(balance, running, left_s - 0.1)
    if left_s < FURTHEST_S:
        assert not is_covered(balance, running, left_s + 1.1)


@pytest.mark.parametrize(
    ("told", "told_at", "until", "news"),
    [
        (None, None, at(hours=10), True),
        (at(hours=10), at(), at(hours=10), False),
        (at(hours=10), at(), at(hours=10.9), False),
        (at(hours=10), at(), at(hours=11.1), True),
        (at(hours=10), at(), at(hours=8.9), True),
        (at(hours=10), at(minutes=-59), at(hours=10), False),
        (at(hours=10), at(minutes=-60), at(hours=10), True),
        (at(hours=-1), at(), at(seconds=1), True),
    ],
)
def test_a_tenth_of_the_time_left_is_news_and_so_is_an_hour(
    told: datetime | None, told_at: datetime | None, until: datetime, *, news: bool
) -> None:
    assert is_news(told, told_at, until, NOW) is news
