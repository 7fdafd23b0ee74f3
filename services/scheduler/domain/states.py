"""Life of an instance: the only place that lists its states, its transitions and its moves."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from shared.text import Text


class State(StrEnum):
    queued = "queued"
    creating = "creating"
    starting = "starting"
    running = "running"
    stopping = "stopping"
    stopped = "stopped"
    saving = "saving"
    releasing = "releasing"
    released = "released"
    failed = "failed"
    lost = "lost"


class Move(StrEnum):
    """What a person may ask for."""

    start = "start"
    stop = "stop"
    restart = "restart"
    save = "save"
    release = "release"


class StopReason(StrEnum):
    user = "user"
    balance = "balance"
    operator = "operator"
    shutdown = "shutdown"
    oom = "oom"
    host_down = "host_down"
    expired = "expired"
    lease = "lease"  # cut off from the platform until the paid time was over


S = State
TRANSITIONS: Mapping[State, frozenset[State]] = {
    S.queued: frozenset({S.creating, S.stopped, S.releasing}),
    S.creating: frozenset(
        {S.starting, S.running, S.stopping, S.stopped, S.failed, S.releasing, S.lost}
    ),
    S.starting: frozenset({S.running, S.stopping, S.stopped, S.failed, S.releasing, S.lost}),
    S.running: frozenset({S.stopping, S.stopped, S.saving, S.releasing, S.lost}),
    # → starting: a restart, once the old container is proven stopped.
    S.stopping: frozenset({S.stopped, S.starting, S.releasing, S.lost}),
    S.stopped: frozenset({S.queued, S.starting, S.saving, S.releasing}),
    S.saving: frozenset({S.running, S.stopping, S.stopped, S.releasing, S.lost}),
    S.releasing: frozenset({S.released}),
    S.released: frozenset(),
    S.failed: frozenset({S.queued, S.starting, S.releasing}),
    S.lost: frozenset({S.running, S.stopped, S.releasing}),
}

# Stop and release are accepted in every state; listed is where they change something.
MOVES: Mapping[State, tuple[Move, ...]] = {
    S.queued: (Move.stop, Move.release),
    S.creating: (Move.stop, Move.release),
    S.starting: (Move.stop, Move.release),
    S.running: (Move.stop, Move.restart, Move.save, Move.release),
    S.stopping: (Move.release,),
    S.stopped: (Move.start, Move.save, Move.release),
    S.saving: (Move.stop, Move.release),
    S.releasing: (),
    S.released: (),
    S.failed: (Move.start, Move.release),
    S.lost: (Move.stop, Move.release),
}

TERMINAL = frozenset(state for state, targets in TRANSITIONS.items() if not targets)

WORDS: Mapping[State, Text] = {
    S.queued: Text("排队中", "queued"),
    S.creating: Text("创建中", "being created"),
    S.starting: Text("开机中", "starting"),
    S.running: Text("运行中", "running"),
    S.stopping: Text("关机中", "stopping"),
    S.stopped: Text("已关机", "stopped"),
    S.saving: Text("保存中", "being saved"),
    S.releasing: Text("释放中", "being released"),
    S.released: Text("已释放", "released"),
    S.failed: Text("异常", "failed"),
    S.lost: Text("失联", "lost"),
}

Want = Literal["running", "stopped", "absent"]

# What the agent is told; None: it is told nothing of such an instance.
_WANTS: Mapping[State, Want | None] = {
    # Stopped, not None: one that waits to start again has its disks there.
    S.queued: "stopped",
    S.creating: "running",
    S.starting: "running",
    S.running: "running",
    S.stopping: "stopped",
    S.stopped: "stopped",
    S.releasing: "absent",
    S.released: None,
    # Stopped, not absent: its disks may hold work of an earlier run.
    S.failed: "stopped",
    # Of one that does not come back to running.
    S.lost: "stopped",
}


class IllegalTransition(ValueError):
    """A bug of ours: both states are named."""

    def __init__(self, source: State, target: State) -> None:
        super().__init__(f"{source.value} → {target.value}")


def may_move(source: State, target: State) -> bool:
    return target in TRANSITIONS[source]


def require_move(source: State, target: State) -> None:
    """Raises IllegalTransition."""
    if not may_move(source, target):
        raise IllegalTransition(source, target)


def active_state(state: State, resume: State | None) -> State:
    """What the container is doing: a save goes on beside it."""
    return resume if state is S.saving and resume is not None else state


def want_of(state: State, resume: State | None) -> Want | None:
    under = resume if state is S.lost and resume is not None else active_state(state, resume)
    return _WANTS[under]


def diagram() -> str:
    """The table as a Mermaid diagram; README holds it word for word."""
    lines = ["stateDiagram-v2", "    [*] --> creating", "    [*] --> queued"]
    for source in State:
        lines += [f"    {source} --> {t}" for t in State if t in TRANSITIONS[source]]
        if source in TERMINAL:
            lines.append(f"    {source} --> [*]")
    return "\n".join(lines)
