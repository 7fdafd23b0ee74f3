"""Life of an authorisation to spend: the only place that lists its moves."""

from collections.abc import Mapping
from enum import StrEnum


class AuthorisationState(StrEnum):
    open = "open"  # promised, not running; its hold is on the wallet
    active = "active"  # running by the agent's report; metered
    closed = "closed"  # stopped and settled
    void = "void"  # never ran
    expired = "expired"  # waited too long: the hold went back, a late start is still billed


S = AuthorisationState
# A stop that overtakes its start is noted and changes no state: the start that follows passes
# through active to closed at once.
TRANSITIONS: Mapping[S, frozenset[S]] = {
    S.open: frozenset({S.active, S.void, S.expired}),
    S.active: frozenset({S.closed}),
    S.expired: frozenset({S.active, S.void}),
    S.closed: frozenset(),
    S.void: frozenset(),
}

FINAL = frozenset(state for state, targets in TRANSITIONS.items() if not targets)


class IllegalTransition(Exception):
    """A bug of ours or of a sender, never a user's mistake."""

    def __init__(self, source: AuthorisationState, target: AuthorisationState) -> None:
        super().__init__(f"an authorisation does not go from {source} to {target}")


def may_move(source: AuthorisationState, target: AuthorisationState) -> bool:
    return target in TRANSITIONS[source]


def require_move(source: AuthorisationState, target: AuthorisationState) -> None:
    """Raises IllegalTransition."""
    if not may_move(source, target):
        raise IllegalTransition(source, target)
