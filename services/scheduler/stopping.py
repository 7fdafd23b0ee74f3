"""Stop and release: always accepted, whoever asks and whatever the host is doing."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.domain.states import State, StopReason, active_state
from services.scheduler.models import Instance
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.signals import Signals
from shared.clock import utc_now
from shared.events.scheduler import InstanceReleased, InstanceSaveFailed
from shared.outbox import emit
from shared.text import Text

_LOST_AND_STOPPED = Text(
    "主机失联：已按最后一次上报结算，主机恢复后关机",
    "The host is lost: settled at its last report; it stops when the host is back",
)
_RUNS = (State.creating, State.starting, State.running)


async def stop(
    session: AsyncSession,
    signals: Signals,
    instance: Instance,
    reason: StopReason,
    *,
    actor: UUID | None,
) -> None:
    """Where nothing runs, nothing changes; a waiting restart is called off. Needs its lock."""
    now = utc_now()
    state = State(instance.state)
    active = active_state(state, State(instance.resume) if instance.resume else None)
    cause = f"stop:{reason}"
    if state is State.queued:
        await _abandon(session, instance, reason.value)
        await moving.move(
            session, signals, instance, State.stopped, cause=cause, now=now, actor=actor,
            authorisation_id=None, stop_reason=reason.value, stopped_at=now,
        )  # fmt: skip
    elif state is State.lost and instance.resume == State.running.value:
        # When its host comes back it is stopped, and not billed until then.
        await moving.move(
            session, signals, instance, State.lost, cause=cause, now=now, actor=actor,
            resume=State.stopping.value, stop_reason=reason.value, reason=_LOST_AND_STOPPED,
        )  # fmt: skip
    elif active in _RUNS and state is State.saving:
        # The save goes on; what it comes back to is on its way down.
        await moving.move(
            session, signals, instance, State.saving, cause=cause, now=now, actor=actor,
            resume=State.stopping.value, stop_reason=reason.value,
        )  # fmt: skip
    elif active in _RUNS:
        await moving.move(
            session, signals, instance, State.stopping, cause=cause, now=now, actor=actor,
            stop_reason=reason.value, progress=None,
        )  # fmt: skip
    elif state is State.stopping and instance.next_authorisation_id is not None:
        await _call_off_restart(session, instance, reason.value)
        await moving.move(
            session, signals, instance, State.stopping, cause=cause, now=now, actor=actor,
            reorders=False, stop_reason=reason.value,
            next_authorisation_id=None, next_price_per_hour=None,
        )  # fmt: skip


async def release(
    session: AsyncSession,
    signals: Signals,
    instance: Instance,
    *,
    actor: UUID | None,
    reason: StopReason = StopReason.user,
) -> None:
    """Its GPUs and ports stay its own until the container is proven gone. Needs its lock."""
    now = utc_now()
    state = State(instance.state)
    cause = f"release:{reason}"
    if state in (State.releasing, State.released):
        return
    if state is State.queued:
        await _abandon(session, instance, "released")
    await _call_off_restart(session, instance, "released")
    if instance.save_image_id is not None:
        failed = save_failed(instance, instance.save_image_id, "released")
        await emit(session, failed, subject=instance.id, sequence=instance.version)
    await moving.move(
        session, signals, instance, State.releasing, cause=cause, now=now, actor=actor,
        releasing_at=now, resume=None, save_image_id=None, save_reference=None,
        next_authorisation_id=None, next_price_per_hour=None, progress=None,
        stop_reason=instance.stop_reason or reason.value,
        authorisation_id=None if state is State.queued else instance.authorisation_id,
    )  # fmt: skip


async def tell_release(session: AsyncSession, instance: Instance) -> None:
    """The last fact of an instance; its ports are free again."""
    await host.free_ports(session, instance.id)
    payload = InstanceReleased(instance_id=instance.id, account_id=instance.account_id)
    await emit(session, payload, subject=instance.id, sequence=instance.version)


def save_failed(instance: Instance, image_id: UUID, reason: str) -> InstanceSaveFailed:
    return InstanceSaveFailed(instance_id=instance.id, image_id=image_id, reason=reason)


async def stop_all_of(
    session: AsyncSession,
    signals: Signals,
    account_id: UUID,
    reason: StopReason,
    *,
    said_at: datetime,
) -> None:
    """What the account started before this was said; a later start has been paid for since."""
    states = [*_RUNS, State.queued, State.saving, State.stopping, State.lost]
    for found in await rows.of_account(session, account_id, states):
        instance = await rows.get_instance(session, found.id, owner_id=None, lock=True)
        if instance.start_ordered_at <= said_at:
            await stop(session, signals, instance, reason, actor=None)


async def fail_start(session: AsyncSession, signals: Signals, instance: Instance) -> None:
    """A start that shows no progress any more. Needs its lock."""
    now = utc_now()
    await _abandon(session, instance, "timeout")
    words = Text("开机超时：长时间没有进展", "The start timed out: no progress for too long")
    await moving.move(
        session, signals, instance, State.failed, cause="deadline", now=now, reason=words,
        authorisation_id=None, stopped_at=now, progress=None,
    )  # fmt: skip


def release_due(instance: Instance, retention_s: float) -> datetime | None:
    at_rest = instance.state in (State.stopped.value, State.failed.value)
    if not at_rest or instance.stopped_at is None:
        return None
    return instance.stopped_at + timedelta(seconds=retention_s)


async def _abandon(session: AsyncSession, instance: Instance, reason: str) -> None:
    if instance.authorisation_id is not None:
        await moving.abandon_start(
            session,
            instance_id=instance.id,
            account_id=instance.account_id,
            authorisation_id=instance.authorisation_id,
            reason=reason,
        )


async def _call_off_restart(session: AsyncSession, instance: Instance, reason: str) -> None:
    if instance.next_authorisation_id is not None:
        await moving.abandon_start(
            session,
            instance_id=instance.id,
            account_id=instance.account_id,
            authorisation_id=instance.next_authorisation_id,
            reason=reason,
        )


async def owned(session: AsyncSession, instance_id: UUID, owner_id: UUID) -> Instance:
    """With its lock. Raises NotFound."""
    return await rows.get_instance(session, instance_id, owner_id=owner_id, lock=True)
