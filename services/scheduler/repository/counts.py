"""How much there is of everything, for gauges."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.states import State
from services.scheduler.models import Gpu, HistoryEntry, Instance, Node


@dataclass(frozen=True, slots=True)
class Devices:
    """Present ones. free: healthy and nobody's. promised: wholly or in part."""

    total: int
    free: int
    promised: int
    unhealthy: int


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    state: str
    heard_at: datetime
    disk_bytes: int
    disk_free_bytes: int


async def hosts(session: AsyncSession) -> list[Host]:
    statement = select(
        Node.name, Node.state, Node.heard_at, Node.disk_bytes, Node.disk_free_bytes
    ).order_by(Node.name)
    return [Host(*row) for row in (await session.execute(statement)).all()]


async def instances(session: AsyncSession) -> dict[str, int]:
    statement = select(Instance.state, func.count()).group_by(Instance.state)
    return {row[0]: row[1] for row in (await session.execute(statement)).all()}


async def devices(session: AsyncSession) -> Devices:
    def count(condition: object) -> object:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)  # type: ignore[arg-type]  # a column expression

    statement = select(
        func.count(),
        count(and_(Gpu.healthy, Gpu.promised_milli == 0)),
        count(Gpu.promised_milli > 0),
        count(Gpu.healthy.is_(False)),
    ).where(Gpu.present)  # type: ignore[call-overload]  # mixed columns
    return Devices(*(int(n) for n in (await session.execute(statement)).one()))


async def oldest_move(session: AsyncSession, states: Sequence[State]) -> dict[str, datetime]:
    """For each of these states in which anything is: since when the longest one is in it."""
    moved_at = (
        select(func.max(HistoryEntry.at))
        .where(HistoryEntry.instance_id == Instance.id)
        .scalar_subquery()
    )
    statement = (
        select(Instance.state, func.min(moved_at))
        .where(Instance.state.in_([state.value for state in states]))
        .group_by(Instance.state)
    )
    return {row[0]: row[1] for row in (await session.execute(statement)).all()}
