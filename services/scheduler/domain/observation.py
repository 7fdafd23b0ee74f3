"""What a report means for an instance: its standing and what was seen in, one outcome out.

A report that answers to an older order means nothing. GPUs come back only where the container is
proven stopped, and every authorisation ends exactly once: stopped or abandoned.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from uuid import UUID

from services.scheduler.domain.states import State, StopReason, active_state
from shared.text import Text


class SeenState(StrEnum):
    absent = "absent"
    pulling = "pulling"
    creating = "creating"
    starting = "starting"
    running = "running"
    stopping = "stopping"
    stopped = "stopped"
    failed = "failed"


@dataclass(frozen=True, slots=True)
class SeenSave:
    image_id: UUID
    state: Literal["saving", "saved", "failed"]
    digest: str
    size_bytes: int
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    generation: int
    start_token: UUID
    state: SeenState
    started_at: datetime | None = None
    finished_at: datetime | None = None
    end_reason: str | None = None
    exit_code: int | None = None
    progress: float | None = None
    message: str = ""
    save: SeenSave | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the scheduler holds true.

    resume: while saving, the state under the save; while lost, what it comes back to.
    authorised: an authorisation is open, so its end must still be told.
    started_at: of the present start, once told.
    releasing_at: when release was asked for; nothing after it is billed.
    restarts: the next start is authorised and waits for the stop.
    settled_until: of one whose node was lost: until when it is billed already.
    ordered_at: by our clock, when the present start was.
    """

    state: State
    resume: State | None
    mode: str
    generation: int
    start_token: UUID
    authorised: bool
    holds_gpus: bool
    restarts: bool
    started_at: datetime | None = None
    releasing_at: datetime | None = None
    stop_reason: str | None = None
    save_image_id: UUID | None = None
    progress_mark: str = ""
    settled_until: datetime | None = None
    ordered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """state, resume: where it stands now. told_start, told_stop: facts to tell; abandoned: the
    authorised start never ran. told_reason: of the stop, where it is not `stop_reason`.
    resumed_at: it is billed again from here on, under a new authorisation.
    calls_off_restart: the next start will not be. reorders: the agent must get a newer order.
    reason: for people; None clears it. moved: more than progress has changed."""

    state: State
    resume: State | None
    moved: bool = True
    told_start: datetime | None = None
    told_stop: datetime | None = None
    abandoned: bool = False
    resumed_at: datetime | None = None
    calls_off_restart: bool = False
    stop_reason: StopReason | None = None
    told_reason: str | None = None
    reason: Text | None = None
    returns_gpus: bool = False
    restarts: bool = False
    reorders: bool = False
    save_ended: SeenSave | None = None
    progress: float | None = None
    progress_mark: str = ""


# A host that boots without a clock of its own believes that it is 1970.
MOST_SKEW = timedelta(days=1)
_ENDED = (SeenState.stopped, SeenState.failed, SeenState.absent)
_SELF_ENDED = {
    "oom": StopReason.oom,
    "host_down": StopReason.host_down,
    "shutdown": StopReason.shutdown,
    "killed": StopReason.shutdown,
    "lease": StopReason.lease,
}
_END_WORDS = {
    "oom": Text("内存超出限额，实例被终止", "Out of memory: the instance was ended"),
    "host_down": Text("主机曾经停机", "The host went down"),
    "shutdown": Text("在实例内部关机", "Shut down from inside"),
    "killed": Text("实例的主进程被终止", "The instance's main process was killed"),
    "lease": Text(
        "主机与平台断开，直到已付费的时间用完",
        "The host was cut off until the paid time was over",
    ),
}


def observe(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    """None: nothing has changed. reported_at: by the agent's clock, as all times of billing."""
    if seen.generation < standing.generation or seen.start_token != standing.start_token:
        return None
    outcome = _container(standing, seen, reported_at)
    if standing.state is State.saving:
        return _under_save(standing, seen, outcome)
    return outcome


def _container(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    match active_state(standing.state, standing.resume):
        case State.creating | State.starting:
            return _on_the_way_up(standing, seen, reported_at)
        case State.running:
            return _while_running(standing, seen, reported_at)
        case State.stopping:
            return _on_the_way_down(standing, seen, reported_at)
        case State.stopped | State.failed:
            return _at_rest(standing, seen)
        case State.releasing:
            return _until_gone(standing, seen, reported_at)
        case State.lost:
            return _after_loss(standing, seen, reported_at)
        case _:
            return None


def _on_the_way_up(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    if seen.state is SeenState.running:
        return Outcome(
            State.running,
            None,
            told_start=_start_of(standing, seen, reported_at) or reported_at,
            # The new container runs without cards, so the one that had them is gone.
            returns_gpus=standing.mode == "cpu" and standing.holds_gpus,
        )
    if seen.state in (SeenState.stopped, SeenState.failed):
        if seen.started_at is not None:
            return _ended_by_itself(standing, seen, reported_at)
        words = seen.message or f"exit code {seen.exit_code}"
        reason = Text(f"开机失败：{words}", f"The start failed: {words}")
        return Outcome(State.failed, None, abandoned=True, reason=reason, reorders=True)
    mark = f"{seen.state}|{seen.progress}|{seen.message}"
    state = State.starting if seen.state is SeenState.starting else standing.state
    if mark == standing.progress_mark and state is standing.state:
        return None
    return Outcome(
        state,
        None,
        moved=state is not standing.state,
        progress=seen.progress,
        progress_mark=mark,
        reason=Text(seen.message, seen.message) if seen.message else None,
    )


def _while_running(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    if seen.state in _ENDED:
        return _ended_by_itself(standing, seen, reported_at)
    return None


def _ended_by_itself(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome:
    end = seen.end_reason or "shutdown"
    return replace(
        _settled(standing, seen, reported_at),
        state=State.stopped,
        stop_reason=_SELF_ENDED.get(end, StopReason.shutdown),
        reason=_END_WORDS.get(end),
        returns_gpus=True,
        reorders=True,
    )


def _on_the_way_down(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    if seen.state not in _ENDED:
        return None
    settled = _settled(standing, seen, reported_at)
    if standing.restarts:
        return replace(settled, state=State.starting, restarts=True, reorders=True)
    return replace(settled, state=State.stopped, returns_gpus=True)


def _at_rest(standing: Standing, seen: Seen) -> Outcome | None:
    if standing.holds_gpus and seen.state in (SeenState.stopped, SeenState.absent):
        rest = active_state(standing.state, standing.resume)
        return Outcome(rest, None, moved=False, returns_gpus=True)
    return None


def _until_gone(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    if seen.state is not SeenState.absent:
        return None
    settled = _settled(standing, seen, reported_at)
    return replace(settled, state=State.released, returns_gpus=True)


def _after_loss(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome | None:
    """The node is back. Nothing is billed for the gap, whatever ran in it."""
    goes_on = standing.resume is State.running
    if seen.state in _ENDED:
        end = seen.end_reason or "host_down"
        ended_itself = goes_on and end != "ordered"
        return Outcome(
            State.stopped,
            None,
            stop_reason=_SELF_ENDED.get(end, StopReason.host_down) if goes_on else None,
            reason=_END_WORDS.get(end) if ended_itself else None,
            returns_gpus=True,
            reorders=goes_on,
        )
    if goes_on and seen.state is SeenState.running:
        resumed_at = max(reported_at, standing.settled_until or reported_at)
        return Outcome(State.running, None, resumed_at=resumed_at)
    return None


def _start_of(standing: Standing, seen: Seen, reported_at: datetime) -> datetime | None:
    """As the host says, whose clock may differ from ours; but none that started long before it was
    ordered is billed from then."""
    started, ordered = seen.started_at, standing.ordered_at
    if started is None or ordered is None or started >= ordered - MOST_SKEW:
        return started
    return max(reported_at, ordered)


def _settled(standing: Standing, seen: Seen, reported_at: datetime) -> Outcome:
    """How the open authorisation ends; a start that no report told before is told now."""
    none = Outcome(State.stopped, None)
    if not standing.authorised:
        return none
    started = standing.started_at or _start_of(standing, seen, reported_at)
    stopped = seen.finished_at or reported_at
    if standing.releasing_at is not None:
        stopped = min(stopped, standing.releasing_at)
    if started is None or (standing.started_at is None and started >= stopped):
        return replace(none, abandoned=True)
    return replace(
        none,
        told_start=started if standing.started_at is None else None,
        told_stop=max(stopped, started),
    )


def _under_save(standing: Standing, seen: Seen, outcome: Outcome | None) -> Outcome | None:
    """The container's own change happens under the save, and the save's end brings it up."""
    resume = outcome.state if outcome is not None else standing.resume or State.stopped
    save = seen.save
    ended = save is not None and save.image_id == standing.save_image_id and save.state != "saving"
    if not ended:
        return replace(outcome, state=State.saving, resume=resume) if outcome else None
    base = outcome or Outcome(resume, None)
    reason = base.reason
    if save is not None and save.state == "failed":
        reason = Text(f"保存镜像失败：{save.message}", f"Saving the image failed: {save.message}")
    return replace(
        base,
        state=resume,
        resume=None,
        moved=True,
        save_ended=save,
        reorders=True,
        reason=reason,
    )
