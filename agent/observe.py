"""What is reported of one instance: order, journal and engine in, one state out. Pure."""

from dataclasses import dataclass
from datetime import datetime

from agent.engine import ContainerFact
from agent.journal import Entry, Run
from shared.events.agent import DesiredInstance, EndReason, ObservedInstance, ObservedState

ENDED_BADLY = (EndReason.shutdown, EndReason.oom, EndReason.killed)


@dataclass(frozen=True, slots=True)
class Doing:
    """What the agent is at right now."""

    state: ObservedState
    progress: float | None = None
    message: str = ""


def observe(
    order: DesiredInstance | None,
    entry: Entry,
    current: ContainerFact | None,
    doing: Doing | None,
) -> ObservedInstance:
    """The report answers to the journal's order; facts of an earlier start never go under the
    name of a later one."""
    run = entry.run if entry.run is not None and entry.run.token == entry.token else None
    if doing is not None:
        state, message, progress = doing.state, doing.message, doing.progress
    else:
        state, message, progress = *_state(order, entry, current, run), None
    return ObservedInstance(
        instance_id=entry.instance_id,
        generation=entry.generation,
        start_token=entry.token,
        state=state,
        started_at=run.started_at if run else None,
        finished_at=run.finished_at if run else _ended_without_journal(entry, current),
        end_reason=run.end_reason if run else None,
        exit_code=run.exit_code if run else None,
        progress=progress,
        message=message,
        save=entry.save,
    )


def _state(
    order: DesiredInstance | None,
    entry: Entry,
    current: ContainerFact | None,
    run: Run | None,
) -> tuple[ObservedState, str]:
    running = current is not None and current.running
    wants_stop = order is not None and order.want == "stopped"
    if entry.erased_at is not None and current is None:
        return ObservedState.absent, ""
    if order is not None and order.want == "absent":
        return ObservedState.stopping, ""
    failure = entry.failure
    if failure is not None and failure.token == entry.token and not running and not wants_stop:
        return ObservedState.failed, failure.message
    if running:
        return _running_state(order, run), ""
    if order is not None and order.want == "running" and (run is None or not run.began):
        return ObservedState.creating, ""
    if order is None and not _has_begun(entry, current):
        # After our own restart, before the first order: what never ran has not stopped.
        return ObservedState.creating, ""
    silent = run is not None and run.began and run.started_at is None and not wants_stop
    if run is not None and silent and run.end_reason in ENDED_BADLY:
        words = f"the container ended before SSH answered (exit code {run.exit_code})"
        return ObservedState.failed, words
    return ObservedState.stopped, ""


def _has_begun(entry: Entry, current: ContainerFact | None) -> bool:
    """Whether the start that `entry.token` names ever happened."""
    run = entry.run
    if run is None:
        return current is None or current.has_started
    return run.token == entry.token and bool(run.began or run.finished_at)


def _ended_without_journal(entry: Entry, current: ContainerFact | None) -> datetime | None:
    if entry.run is not None or current is None or current.token != entry.token:
        return None
    return current.finished_at


def _running_state(order: DesiredInstance | None, run: Run | None) -> ObservedState:
    if order is not None and order.want == "stopped":
        return ObservedState.stopping
    if order is not None and run is None:
        return ObservedState.creating
    if run is not None and run.started_at is None:
        return ObservedState.starting
    return ObservedState.running
