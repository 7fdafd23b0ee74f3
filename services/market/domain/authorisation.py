"""Life of an authorisation to spend: the only place that lists its moves."""

from collections.abc import Mapping
from enum import StrEnum


class AuthorisationState(StrEnum):
    open = "open"
    active = "active"
    closed = "closed"
    void = "void"
    expired = "expired"


S = AuthorisationState
# expired → active: a start told late is still billed. open → closed: its stop overtook its start.
TRANSITIONS: Mapping[S, frozenset[S]] = {
    S.open: frozenset({S.active, S.closed, S.void, S.expired}),
    S.active: frozenset({S.closed}),
    S.expired: frozenset({S.active, S.closed}),
    S.closed: frozenset(),
    S.void: frozenset(),
}


def may_move(source: AuthorisationState, target: AuthorisationState) -> bool:
    return target in TRANSITIONS[source]
