"""The life of an account: one table says every move that exists."""

from collections.abc import Mapping
from enum import StrEnum

from services.auth.errors import IllegalTransition


class AccountState(StrEnum):
    """The same words as `shared.tokens.AccountStatus`, which this layer may not import."""

    pending = "pending"
    active = "active"
    rejected = "rejected"
    disabled = "disabled"


class Move(StrEnum):
    approve = "approve"
    reject = "reject"
    disable = "disable"
    enable = "enable"


TRANSITIONS: Mapping[AccountState, Mapping[Move, AccountState]] = {
    AccountState.pending: {
        Move.approve: AccountState.active,
        Move.reject: AccountState.rejected,
    },
    AccountState.rejected: {Move.approve: AccountState.active},
    AccountState.active: {Move.disable: AccountState.disabled},
    AccountState.disabled: {Move.enable: AccountState.active},
}

RESERVED_USERNAMES = frozenset({"admin", "root", "system"})


def transition(state: AccountState, move: Move) -> AccountState:
    """The state after the move. Raises IllegalTransition, which names the moves there are."""
    moves = TRANSITIONS[state]
    if move not in moves:
        allowed = sorted(m.value for m in moves)
        raise IllegalTransition(
            state=state.value, move=move.value, allowed=allowed, possible=", ".join(allowed)
        )
    return moves[move]


def may_log_in(state: AccountState) -> bool:
    """Pending and rejected people come in to see how they stand."""
    return state is not AccountState.disabled
