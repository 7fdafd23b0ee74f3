"""The moves of an account."""

import pytest

from services.auth.domain.account import TRANSITIONS, AccountState, Move, may_log_in, transition
from services.auth.errors import IllegalTransition
from shared.tokens import AccountStatus

LEGAL = {
    ("pending", "approve"): "active",
    ("pending", "reject"): "rejected",
    ("rejected", "approve"): "active",
    ("active", "disable"): "disabled",
    ("disabled", "enable"): "active",
}


@pytest.mark.parametrize("state", AccountState)
@pytest.mark.parametrize("move", Move)
def test_every_pair_of_state_and_move_is_either_listed_or_refused_with_the_allowed_moves(
    state: AccountState, move: Move
) -> None:
    after = LEGAL.get((state.value, move.value))
    if after is not None:
        assert transition(state, move) == after
        return
    with pytest.raises(IllegalTransition) as refusal:
        transition(state, move)
    assert refusal.value.values["allowed"] == sorted(m for s, m in LEGAL if s == state)
    assert refusal.value.values["state"] == state


def test_every_state_has_a_row_and_the_same_words_as_the_tokens() -> None:
    assert set(TRANSITIONS) == set(AccountState)
    assert [s.value for s in AccountState] == [s.value for s in AccountStatus]


def test_only_disabled_accounts_are_kept_out() -> None:
    assert [s for s in AccountState if not may_log_in(s)] == [AccountState.disabled]
