"""What the loss of its node means for an instance: its standing in, one outcome out.

What ran is settled at the last report that showed it; starts and saves are given up. GPUs stay
promised until the node proves them free, since the container may well run on.
"""

from dataclasses import replace
from datetime import datetime

from services.scheduler.domain.observation import Outcome, SeenSave, Standing
from services.scheduler.domain.states import State, StopReason, active_state
from shared.text import Text

_WORDS = Text(
    "主机失联：已按最后一次上报结算，主机恢复后接续",
    "The host is lost: settled at its last report; it goes on when the host is back",
)
_LOSABLE = (State.creating, State.starting, State.running, State.stopping, State.saving)


def lose(standing: Standing, seen_running_at: datetime | None) -> Outcome | None:
    """None: it is not touched. seen_running_at: when a report last showed this start running.

    `resume` of the outcome is what it comes back to: running, or on its way down."""
    if standing.state is State.releasing:
        return _end(standing, seen_running_at, State.releasing) if standing.authorised else None
    if standing.state not in _LOSABLE:
        return None
    under = active_state(standing.state, standing.resume)
    outcome = _end(standing, seen_running_at, State.lost)
    back = State.running if under is State.running else State.stopping
    saving = standing.state is State.saving and standing.save_image_id is not None
    return replace(
        outcome,
        resume=back,
        reason=_WORDS,
        calls_off_restart=standing.restarts,
        # The order changes: to stop what was starting, or to save no more.
        reorders=saving or under in (State.creating, State.starting),
        save_ended=SeenSave(standing.save_image_id, "failed", "", 0, "host lost")
        if standing.save_image_id is not None and saving
        else None,
    )


def _end(standing: Standing, seen_running_at: datetime | None, state: State) -> Outcome:
    """How the open authorisation ends."""
    outcome = Outcome(state, None, told_reason=standing.stop_reason or StopReason.host_down.value)
    if not standing.authorised:
        return outcome
    started = standing.started_at
    if started is None:
        return replace(outcome, abandoned=True)
    stopped = max(started, seen_running_at or started)
    if standing.releasing_at is not None:
        stopped = max(started, min(stopped, standing.releasing_at))
    return replace(outcome, told_stop=stopped)
