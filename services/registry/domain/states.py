"""Life of an image: the only place that lists its states and their transitions, for each kind."""

from collections.abc import Mapping
from enum import StrEnum


class Kind(StrEnum):
    system = "system"
    saved = "saved"


class State(StrEnum):
    building = "building"
    ready = "ready"
    failed = "failed"


S = State
TRANSITIONS: Mapping[Kind, Mapping[State, frozenset[State]]] = {
    # A builder tries again after a failure, and builds anew what a host has lost.
    Kind.system: {
        S.building: frozenset({S.ready, S.failed}),
        S.ready: frozenset({S.building, S.failed}),
        S.failed: frozenset({S.building, S.ready}),
    },
    # failed → ready: the host was slow beyond the deadline, but the image is there.
    Kind.saved: {
        S.building: frozenset({S.ready, S.failed}),
        S.ready: frozenset(),
        S.failed: frozenset({S.ready}),
    },
}


class IllegalTransition(ValueError):
    """Both states are named."""

    def __init__(self, kind: Kind, source: State, target: State) -> None:
        super().__init__(f"{kind.value} image: {source.value} → {target.value}")


def may_move(kind: Kind, source: State, target: State) -> bool:
    return target in TRANSITIONS[kind][source]


def require_move(kind: Kind, source: State, target: State) -> None:
    """Raises IllegalTransition."""
    if not may_move(kind, source, target):
        raise IllegalTransition(kind, source, target)


def diagram() -> str:
    """Both tables as one Mermaid diagram; README holds it word for word."""
    lines = ["stateDiagram-v2"]
    for kind, table in TRANSITIONS.items():
        lines += [f"    state {kind} {{", f"        [*] --> {kind}_building"]
        for source in State:
            lines += [
                f"        {kind}_{source} --> {kind}_{t}" for t in State if t in table[source]
            ]
        lines.append("    }")
    return "\n".join(lines)
