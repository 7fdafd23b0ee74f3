"""What time alone brings: starts without progress, the end of retention."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.states import State, StopReason
from services.scheduler.models import Instance
from services.scheduler.repository import instances as rows
from services.scheduler.stopping import fail_start, release, release_due
from services.scheduler.tools import Tools
from shared.clock import utc_now

log = structlog.get_logger(__name__)


async def sweep(tools: Tools) -> None:
    """One pass; each item in a transaction of its own, so that none holds up the others."""
    now = utc_now()
    settings = tools.settings
    async with tools.database.transaction() as session:
        overdue = await rows.without_progress(session, now - _s(settings.start_timeout_s))
        unkept = await rows.at_rest_since(session, now - _s(settings.retention_s))
    await _each(tools, overdue, _fail_overdue)
    await _each(tools, unkept, _release_unkept)


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


async def _each(
    tools: Tools,
    ids: Sequence[UUID],
    act: Callable[[AsyncSession, Tools, UUID, datetime], Awaitable[None]],
) -> None:
    for id_ in ids:
        try:
            async with tools.database.transaction() as session:
                await act(session, tools, id_, utc_now())
        except Exception:
            log.exception("sweep_item_failed", act=act.__name__, id=str(id_))


async def _fail_overdue(
    session: AsyncSession, tools: Tools, instance_id: UUID, now: datetime
) -> None:
    instance = await _locked(session, instance_id)
    if instance.state not in (State.creating.value, State.starting.value):
        return
    if instance.progress_at < now - _s(tools.settings.start_timeout_s):
        await fail_start(session, tools.signals, instance)


async def _release_unkept(
    session: AsyncSession, tools: Tools, instance_id: UUID, now: datetime
) -> None:
    instance = await _locked(session, instance_id)
    due = release_due(instance, tools.settings.retention_s)
    if due is not None and due < now:
        await release(session, tools.signals, instance, actor=None, reason=StopReason.expired)


async def _locked(session: AsyncSession, instance_id: UUID) -> Instance:
    return await rows.get_instance(session, instance_id, owner_id=None, lock=True)
