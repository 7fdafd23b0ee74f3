"""Life of a node: the only place that lists its states and its transitions."""

from collections.abc import Mapping
from enum import StrEnum


class NodeState(StrEnum):
    online = "online"
    silent = "silent"  # not heard for a moment: nothing new is placed, nothing else changes
    lost = "lost"  # not heard for so long that what ran there is settled
    removed = "removed"  # by an operator, for good


N = NodeState
TRANSITIONS: Mapping[NodeState, frozenset[NodeState]] = {
    N.online: frozenset({N.silent, N.removed}),
    N.silent: frozenset({N.online, N.lost, N.removed}),
    N.lost: frozenset({N.online, N.removed}),
    N.removed: frozenset(),
}


class IllegalNodeMove(ValueError):
    """A bug of ours: both states are named."""

    def __init__(self, source: NodeState, target: NodeState) -> None:
        super().__init__(f"{source.value} → {target.value}")


def require_node_move(source: NodeState, target: NodeState) -> None:
    """Raises IllegalNodeMove."""
    if target not in TRANSITIONS[source]:
        raise IllegalNodeMove(source, target)


def shown_state(state: str, *, draining: bool) -> str:
    """For people and the market: an online node that takes nothing new is `draining`."""
    return "draining" if draining and state == N.online else state


def takes_new(state: str, *, draining: bool) -> bool:
    return state == N.online and not draining


def node_diagram() -> str:
    """The table as a Mermaid diagram; README holds it word for word."""
    lines = ["stateDiagram-v2", "    [*] --> online", "    [*] --> silent"]
    for source in NodeState:
        lines += [f"    {source} --> {t}" for t in NodeState if t in TRANSITIONS[source]]
    return "\n".join([*lines, "    removed --> [*]"])
