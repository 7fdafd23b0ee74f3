"""Authorisations move only as listed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.domain.authorisation import (
    FINAL,
    TRANSITIONS,
    AuthorisationState,
    IllegalTransition,
    may_move,
    require_move,
)

S = AuthorisationState
MOVES = {
    (S.open, S.active), (S.open, S.void), (S.open, S.expired), (S.active, S.closed),
    (S.expired, S.active), (S.expired, S.void),
}  # fmt: skip


@pytest.mark.parametrize(("source", "target"), list(itertools.product(S, S)))
def test_every_pair_moves_as_listed_or_names_both_states(source: S, target: S) -> None:
    assert may_move(source, target) == ((source, target) in MOVES)
    if may_move(source, target):
        return require_move(source, target)
    with pytest.raises(IllegalTransition, match=rf"{source} to {target}"):
        require_move(source, target)
    return None


def test_closed_and_void_absorb() -> None:
    assert {S.closed, S.void} == FINAL


def test_every_state_is_listed() -> None:
    assert set(TRANSITIONS) == set(S)


@given(wishes=st.lists(st.sampled_from(S), max_size=12))
def test_whatever_is_tried_it_ends_at_most_once(wishes: list[S]) -> None:
    state, ends = S.open, 0
    for wish in wishes:
        if may_move(state, wish):
            state = wish
            ends += state in FINAL
    assert ends <= 1
