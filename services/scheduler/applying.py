"""What an outcome changes: the instance's row and history, the facts told, the GPUs given back."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.domain.observation import Outcome, Standing
from services.scheduler.domain.states import State
from services.scheduler.facts import facts_of
from services.scheduler.models import Instance, Node
from services.scheduler.placing import return_gpus
from services.scheduler.repository import instances as rows
from services.scheduler.repository import runs
from services.scheduler.stopping import tell_release
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.events import Payload
from shared.events.scheduler import InstanceStopped
from shared.ids import new_id
from shared.outbox import emit_all

log = structlog.get_logger(__name__)


async def apply_outcome(
    session: AsyncSession,
    tools: Tools,
    node: Node,
    instance: Instance,
    outcome: Outcome,
) -> None:
    """Of a report. Needs the locks of node and instance."""
    now = utc_now()
    if not outcome.moved and not outcome.returns_gpus:
        await rows.change(
            session, instance, progress=outcome.progress, progress_mark=outcome.progress_mark,
            progress_at=now, status_reason=moving.words(outcome.reason),
        )  # fmt: skip
        return
    if outcome.moved:
        resumed_id = new_id() if outcome.resumed_at is not None else None
        facts = facts_of(instance, outcome, resumed_id)
        await _tell(session, [(fact, instance.id, instance.version) for fact in facts])
        await moving.move(
            session, tools.signals, instance, outcome.state,
            cause="report", now=now, reason=outcome.reason, reorders=outcome.reorders,
            **_changes(instance, outcome, now, resumed_id),
        )  # fmt: skip
        log.info(
            "instance_moved", instance_id=str(instance.id), state=outcome.state.value,
            reason=instance.stop_reason,
        )  # fmt: skip
    if outcome.returns_gpus:
        await return_gpus(session, tools.signals, node, instance.id)
    if outcome.state is State.released:
        await tell_release(session, instance)
        # The agent may forget it.
        tools.signals.order_changed(session, node.id)


async def apply_losses(
    session: AsyncSession, tools: Tools, losses: Iterable[tuple[Instance, Outcome]]
) -> None:
    """Of a node's loss: all in a few statements. Needs all their locks, held since they were
    read."""
    now = utc_now()
    facts: list[tuple[Payload, object, int]] = []
    for instance, outcome in losses:
        facts += [
            (fact, instance.id, instance.version) for fact in facts_of(instance, outcome, None)
        ]
        moving.move_held(
            session, tools.signals, instance, outcome.state,
            cause="host_lost", now=now, reason=outcome.reason, reorders=outcome.reorders,
            **_changes(instance, outcome, now, None),
        )  # fmt: skip
    await _tell(session, facts)


async def _tell(session: AsyncSession, facts: Sequence[tuple[Payload, object, int]]) -> None:
    """Ends of runs stay on record: what the market does not hear it asks for."""
    await emit_all(session, facts)
    await runs.end(session, [fact for fact, _, _ in facts if isinstance(fact, InstanceStopped)])


def _changes(
    instance: Instance, outcome: Outcome, now: datetime, resumed_id: UUID | None
) -> dict[str, Any]:
    """resumed_id: of the new authorisation, where the run goes on after a loss."""
    changes: dict[str, Any] = {
        "resume": outcome.resume.value if outcome.resume is not None else None,
        "progress": outcome.progress,
        "progress_mark": outcome.progress_mark,
        "progress_at": now,
    }
    if outcome.told_start is not None:
        changes["started_at"] = outcome.told_start
    if outcome.told_stop is not None or outcome.abandoned:
        changes["authorisation_id"] = None
        changes["stopped_at"] = outcome.told_stop or now
    if outcome.state is State.lost and outcome.told_stop is not None:
        changes["lost_authorisation_id"] = instance.authorisation_id
    if resumed_id is not None:
        changes |= {
            "authorisation_id": resumed_id,
            "lost_authorisation_id": None,
            "started_at": outcome.resumed_at,
            "stopped_at": None,
            "stop_reason": None,
        }
    if outcome.calls_off_restart:
        changes |= {"next_authorisation_id": None, "next_price_per_hour": None}
    if outcome.stop_reason is not None:
        changes["stop_reason"] = outcome.stop_reason.value
    if outcome.state is not State.saving:
        changes |= {"save_image_id": None, "save_reference": None}
    if outcome.state is State.released:
        changes["released_at"] = now
    if outcome.restarts:
        changes |= {
            "authorisation_id": instance.next_authorisation_id,
            "price_per_hour": instance.next_price_per_hour,
            "next_authorisation_id": None,
            "next_price_per_hour": None,
            "start_token": new_id(),
            "start_ordered_at": now,
            "started_at": None,
            "stopped_at": None,
            "stop_reason": None,
        }
    return changes


def resume_of(instance: Instance) -> State | None:
    return State(instance.resume) if instance.resume is not None else None


def standing_of(instance: Instance, *, holds_gpus: bool) -> Standing:
    return Standing(
        state=State(instance.state),
        resume=resume_of(instance),
        mode=instance.mode,
        generation=instance.generation,
        start_token=instance.start_token,
        authorised=instance.authorisation_id is not None,
        holds_gpus=holds_gpus,
        restarts=instance.next_authorisation_id is not None,
        started_at=instance.started_at,
        releasing_at=instance.releasing_at,
        stop_reason=instance.stop_reason,
        save_image_id=instance.save_image_id,
        progress_mark=instance.progress_mark,
        settled_until=instance.stopped_at if instance.state == State.lost.value else None,
        ordered_at=instance.start_ordered_at,
    )
