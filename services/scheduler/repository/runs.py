"""Runs as the market counts them: by authorisation, while they last and when they ended."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.runs import Ended, Running
from services.scheduler.models import Instance, RunEnd
from shared.events.scheduler import InstanceStopped


async def end(session: AsyncSession, stops: Sequence[InstanceStopped]) -> None:
    """The first word stands."""
    if stops:
        values = [
            {
                "authorisation_id": stop.authorisation_id,
                "instance_id": stop.instance_id,
                "stopped_at": stop.stopped_at,
            }
            for stop in stops
        ]
        await session.execute(insert(RunEnd).values(values).on_conflict_do_nothing())


async def ended(session: AsyncSession, authorisations: Collection[UUID]) -> list[Ended]:
    ago_s = func.extract("epoch", func.clock_timestamp() - RunEnd.recorded_at)
    statement = select(RunEnd.authorisation_id, RunEnd.stopped_at, ago_s).where(
        RunEnd.authorisation_id.in_(authorisations)
    )
    return [Ended(id_, at, float(ago)) for id_, at, ago in await session.execute(statement)]


async def standing(session: AsyncSession, authorisations: Collection[UUID]) -> list[UUID]:
    """Whose end is yet to be told, whatever becomes of the instance."""
    statement = select(Instance.authorisation_id).where(
        Instance.authorisation_id.in_(authorisations)
    )
    return [id_ for id_ in (await session.execute(statement)).scalars() if id_ is not None]


async def running(session: AsyncSession, after: UUID | None, size: int) -> list[Running]:
    """Whose start was told and whose end was not; by authorisation, those after this one."""
    for_s = func.extract("epoch", func.clock_timestamp() - Instance.progress_at)
    statement = (
        select(Instance.authorisation_id, Instance.id, for_s)
        .where(Instance.authorisation_id.is_not(None), Instance.started_at.is_not(None))
        .order_by(Instance.authorisation_id)
        .limit(size)
    )
    if after is not None:
        statement = statement.where(Instance.authorisation_id > after)
    rows = await session.execute(statement)
    return [Running(id_, instance, float(s)) for id_, instance, s in rows if id_ is not None]


async def forget_ends(session: AsyncSession, kept: timedelta) -> None:
    old = RunEnd.recorded_at < func.now() - kept
    await session.execute(delete(RunEnd).where(old))
