"""The one way in which an instance changes: conditional update, history row and new order; and a
node."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.node_states import NodeState, require_node_move
from services.scheduler.domain.states import State, require_move
from services.scheduler.models import HistoryEntry, Instance, Node, Words
from services.scheduler.repository import instances as rows
from services.scheduler.signals import Signals
from shared.events.scheduler import InstanceStopped, StartAbandoned
from shared.ids import new_id
from shared.outbox import emit
from shared.telemetry import traceparent
from shared.text import Text


def words(reason: Text | None) -> Words | None:
    return None if reason is None else {"zh": reason.zh, "en": reason.en}


def move_node(node: Node, target: NodeState) -> None:
    """Needs its lock. Raises IllegalNodeMove."""
    require_node_move(NodeState(node.state), target)
    node.state = target.value


async def move(
    session: AsyncSession,
    signals: Signals,
    instance: Instance,
    target: State,
    *,
    cause: str,
    now: datetime,
    actor: UUID | None = None,
    reason: Text | None = None,
    reorders: bool = True,
    **changes: object,
) -> None:
    """reorders: the agent's order changes with it. Raises IllegalTransition, Stale."""
    source = State(instance.state)
    values = _values(session, signals, instance, target, reason, changes, reorders=reorders)
    await rows.change(session, instance, **values)
    record(session, instance, source, cause=cause, now=now, actor=actor)


def move_held(
    session: AsyncSession,
    signals: Signals,
    instance: Instance,
    target: State,
    *,
    cause: str,
    now: datetime,
    reason: Text | None = None,
    reorders: bool = True,
    **changes: object,
) -> None:
    """As `move`, for one of many whose locks this transaction has held since it read them: all of
    them are written together. Raises IllegalTransition."""
    source = State(instance.state)
    values = _values(session, signals, instance, target, reason, changes, reorders=reorders)
    for name, value in values.items():
        setattr(instance, name, value)
    record(session, instance, source, cause=cause, now=now, actor=None)


def _values(
    session: AsyncSession,
    signals: Signals,
    instance: Instance,
    target: State,
    reason: Text | None,
    changes: Mapping[str, object],
    *,
    reorders: bool,
) -> dict[str, object]:
    source = State(instance.state)
    if target is not source:
        require_move(source, target)
    values = {
        **changes,
        "state": target.value,
        "version": instance.version + 1,
        "status_reason": words(reason),
    }
    if reorders:
        values["generation"] = instance.generation + 1
        # What moves by itself belongs to the request before it.
        values["traceparent"] = traceparent() or instance.traceparent
        signals.order_changed(session, instance.node_id)
    return values


def record(
    session: AsyncSession,
    instance: Instance,
    source: State | None,
    *,
    cause: str,
    now: datetime,
    actor: UUID | None,
) -> None:
    session.add(
        HistoryEntry(
            id=new_id(),
            instance_id=instance.id,
            at=now,
            from_state=source.value if source is not None else None,
            to_state=instance.state,
            cause=cause,
            reason=instance.status_reason,
            generation=instance.generation,
            actor_id=actor,
        )
    )


async def abandon_start(
    session: AsyncSession,
    *,
    instance_id: UUID,
    account_id: UUID,
    authorisation_id: UUID,
    reason: str,
) -> None:
    """Market gives the hold back."""
    payload = StartAbandoned(
        instance_id=instance_id,
        account_id=account_id,
        authorisation_id=authorisation_id,
        reason=reason,
    )
    await emit(session, payload, subject=instance_id)


def abandonment(instance: Instance, authorisation_id: UUID, reason: str) -> StartAbandoned:
    return StartAbandoned(
        instance_id=instance.id,
        account_id=instance.account_id,
        authorisation_id=authorisation_id,
        reason=reason,
    )


def stop_fact(
    instance: Instance, authorisation_id: UUID, at: datetime, reason: str
) -> InstanceStopped:
    return InstanceStopped(
        instance_id=instance.id,
        account_id=instance.account_id,
        authorisation_id=authorisation_id,
        stopped_at=at,
        reason=reason,
    )
