"""How a host comes to the platform: the states of an invitation and of a node's credential."""

from collections.abc import Mapping
from enum import StrEnum


class InvitationState(StrEnum):
    open = "open"
    used = "used"  # by one agent, which may repeat its join until the invitation's end
    expired = "expired"


class CredentialState(StrEnum):
    admitting = "admitting"  # the broker is being asked to let it in
    admitted = "admitted"
    dismissing = "dismissing"  # refused everywhere; the broker is yet to be told
    dismissed = "dismissed"


I, C = InvitationState, CredentialState  # noqa: E741 - local to the two tables

INVITATION: Mapping[InvitationState, frozenset[InvitationState]] = {
    I.open: frozenset({I.used, I.expired}),
    I.used: frozenset(),
    I.expired: frozenset(),
}

CREDENTIAL: Mapping[CredentialState, frozenset[CredentialState]] = {
    # → admitting: the join is repeated, with a fresh password.
    C.admitting: frozenset({C.admitting, C.admitted, C.dismissing}),
    C.admitted: frozenset({C.admitting, C.dismissing}),
    C.dismissing: frozenset({C.dismissed}),
    # → admitting: the same agent comes with a new invitation.
    C.dismissed: frozenset({C.admitting}),
}


class IllegalJoining(ValueError):
    """A bug of ours: both states are named."""

    def __init__(self, source: StrEnum, target: StrEnum) -> None:
        super().__init__(f"{source.value} → {target.value}")


def require_invitation(source: InvitationState, target: InvitationState) -> None:
    """Raises IllegalJoining."""
    if target not in INVITATION[source]:
        raise IllegalJoining(source, target)


def require_credential(source: CredentialState, target: CredentialState) -> None:
    """Raises IllegalJoining."""
    if target not in CREDENTIAL[source]:
        raise IllegalJoining(source, target)


def credential_diagram() -> str:
    """The table as a Mermaid diagram; README holds it word for word."""
    lines = ["stateDiagram-v2", "    [*] --> admitting"]
    for source in CredentialState:
        lines += [f"    {source} --> {t}" for t in CredentialState if t in CREDENTIAL[source]]
    return "\n".join(lines)
