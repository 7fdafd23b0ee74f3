"""Invitations and credentials move only as listed."""

from itertools import product
from pathlib import Path

import pytest

from services.scheduler.domain.joining import (
    CREDENTIAL,
    INVITATION,
    CredentialState,
    IllegalJoining,
    InvitationState,
    credential_diagram,
    require_credential,
    require_invitation,
)

README = Path(__file__).parents[3] / "services" / "scheduler" / "README.md"


@pytest.mark.parametrize(("source", "target"), list(product(InvitationState, InvitationState)))
def test_an_invitation_moves_as_listed_or_names_both_states(
    source: InvitationState, target: InvitationState
) -> None:
    if target in INVITATION[source]:
        return require_invitation(source, target)
    with pytest.raises(IllegalJoining, match=f"{source} → {target}"):
        require_invitation(source, target)
    return None


@pytest.mark.parametrize(("source", "target"), list(product(CredentialState, CredentialState)))
def test_a_credential_moves_as_listed_or_names_both_states(
    source: CredentialState, target: CredentialState
) -> None:
    if target in CREDENTIAL[source]:
        return require_credential(source, target)
    with pytest.raises(IllegalJoining, match=f"{source} → {target}"):
        require_credential(source, target)
    return None


def test_whoever_is_being_dismissed_is_dismissed_before_coming_again() -> None:
    assert CREDENTIAL[CredentialState.dismissing] == {CredentialState.dismissed}


def test_readme_shows_the_table_as_it_is() -> None:
    assert credential_diagram() in README.read_text()
