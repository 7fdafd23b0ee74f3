"""The checkers themselves: silent on histories that may be, loud on those that may not."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from tests.fault.history import (
    History,
    Holding,
    Outcome,
    effects_not_once,
    end,
    falling,
    lost_writes,
    over_held,
    two_answers,
    unordered_starts,
    wrong_sums,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


def history(*calls: tuple[str, str, str, Outcome]) -> History:
    made = History()
    for what, key, value, outcome in calls:
        end(made.begin("c", what, key=key, value=value), outcome, value)
    return made


def test_an_acknowledged_write_must_be_there_and_an_unknown_one_may() -> None:
    calls = history(("put", "/a", "1", "ok"), ("put", "/b", "2", "unknown"))
    assert list(lost_writes(calls, {"/a": "1"})) == []
    assert list(lost_writes(calls, {"/a": "1", "/b": "2"})) == []
    assert list(lost_writes(calls, {"/b": "2"}))
    assert list(lost_writes(calls, {"/a": "torn"}))
    assert list(lost_writes(calls, {"/a": "1", "/c": "3"}))


def test_a_credit_is_booked_once_if_acknowledged_and_never_if_refused() -> None:
    calls = history(
        ("credit", "k", "5", "unknown"), ("credit", "k", "5", "ok"), ("credit", "r", "7", "failed")
    )
    five = ("k", Decimal(5))
    assert list(wrong_sums(calls, [five])) == []
    assert list(wrong_sums(calls, []))
    assert list(wrong_sums(calls, [five, five]))
    assert list(wrong_sums(calls, [("k", Decimal(6))]))
    assert list(wrong_sums(calls, [five, ("r", Decimal(7))]))
    assert list(wrong_sums(calls, [five, ("x", Decimal(1))]))


def test_one_key_has_one_answer() -> None:
    assert list(two_answers(history(("m", "k", "a", "ok"), ("m", "k", "a", "ok")), "m")) == []
    assert list(two_answers(history(("m", "k", "a", "ok"), ("m", "k", "b", "ok")), "m"))


def holding(instance: UUID, begin: int, finish: int | None, cards: int = 1) -> Holding:
    ended = None if finish is None else T0 + timedelta(seconds=finish)
    return Holding("h", cards, instance, T0 + timedelta(seconds=begin), ended)


def test_a_host_never_gives_more_cards_than_it_has() -> None:
    has = {"h": 2}
    assert list(over_held([holding(ONE, 0, 5, 2), holding(TWO, 5, None, 2)], has)) == []
    assert list(over_held([holding(ONE, 0, 6, 2), holding(TWO, 5, None)], has))
    assert list(over_held([holding(ONE, 0, None), holding(ONE, 5, None)], has))


def test_a_start_that_nobody_ordered_is_found() -> None:
    runs = [holding(ONE, 0, 1), holding(ONE, 2, 3)]
    assert list(unordered_starts(runs, {ONE: 2})) == []
    assert list(unordered_starts(runs, {ONE: 1}))


def test_what_one_reader_sees_never_gets_older() -> None:
    assert list(falling([("a", 1), ("b", 1), ("a", 2), ("a", 2)])) == []
    assert list(falling([("a", 2), ("a", 1)]))


def test_an_effect_that_is_missing_or_doubled_is_found() -> None:
    assert list(effects_not_once([ONE, TWO], [TWO, ONE])) == []
    assert list(effects_not_once([ONE, TWO], [ONE]))
    assert list(effects_not_once([ONE], [ONE, ONE]))
