"""Authorisations move only as listed."""

import pytest

from services.market.domain.authorisation import TRANSITIONS, AuthorisationState, may_move


@pytest.mark.parametrize("target", list(AuthorisationState))
def test_closed_and_void_absorb(target: AuthorisationState) -> None:
    assert not may_move(AuthorisationState.closed, target)
    assert not may_move(AuthorisationState.void, target)


def test_every_state_is_listed() -> None:
    assert set(TRANSITIONS) == set(AuthorisationState)
