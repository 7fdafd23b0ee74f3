"""Authorisations. Lock order: the wallet before its authorisations."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.domain.authorisation import FINAL, AuthorisationState
from services.market.models import Authorisation, EarlyStop

A = Authorisation
_FINAL = [state.value for state in FINAL]


async def add(session: AsyncSession, values: dict[str, Any]) -> bool:
    """False when the id is taken."""
    row = insert(A).values(**values).on_conflict_do_nothing().returning(A.id)
    return (await session.execute(row)).first() is not None


async def find(
    session: AsyncSession, authorisation_id: UUID, *, lock: bool = False
) -> Authorisation | None:
    """lock: needs its wallet's lock first."""
    return await session.get(
        A, authorisation_id, with_for_update=lock or None, populate_existing=True
    )


async def owner_of(session: AsyncSession, authorisation_id: UUID) -> UUID | None:
    statement = select(A.account_id).where(A.id == authorisation_id)
    return (await session.execute(statement)).scalar_one_or_none()


async def knows_instance(session: AsyncSession, instance_id: UUID) -> bool:
    statement = select(A.id).where(A.instance_id == instance_id).limit(1)
    return (await session.execute(statement)).first() is not None


async def keep_early_stop(
    session: AsyncSession, authorisation_id: UUID, stopped_at: datetime
) -> None:
    """The first one stands."""
    row = insert(EarlyStop).values(authorisation_id=authorisation_id, stopped_at=stopped_at)
    await session.execute(row.on_conflict_do_nothing())


async def take_early_stop(session: AsyncSession, authorisation_id: UUID) -> datetime | None:
    statement = (
        delete(EarlyStop)
        .where(EarlyStop.authorisation_id == authorisation_id)
        .returning(EarlyStop.stopped_at)
        .execution_options(synchronize_session=False)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def prove(session: AsyncSession, ids: Collection[UUID], until: datetime) -> None:
    """Forward only. Rows are locked in one order, so that two proofs at once do not deadlock."""
    locked = (
        select(A.id).where(A.id.in_(ids), A.state.not_in(_FINAL)).order_by(A.id).with_for_update()
    )
    await session.execute(
        update(A)
        .where(A.id.in_(locked), or_(A.proven_until.is_(None), A.proven_until < until))
        .values(proven_until=until)
        .execution_options(synchronize_session=False)
    )


async def ids_expired(session: AsyncSession, now: datetime) -> list[UUID]:
    statement = select(A.id).where(A.state == AuthorisationState.open, A.expires_at <= now)
    return list((await session.execute(statement)).scalars())


async def ids_payable(session: AsyncSession, hour: datetime, *, late: bool) -> list[UUID]:
    """Running, with proven time before `hour` that is not billed. late: also those whose proof
    does not reach that hour."""
    statement = select(A.id).where(
        A.state == AuthorisationState.active,
        A.billed_until < hour,
        A.proven_until > A.billed_until,
    )
    if not late:
        statement = statement.where(A.proven_until >= hour)
    return list((await session.execute(statement)).scalars())


async def active_of(
    session: AsyncSession, account_id: UUID, *, lock: bool = False
) -> list[Authorisation]:
    statement = (
        select(A)
        .where(A.account_id == account_id, A.state == AuthorisationState.active)
        .order_by(A.id)
        .execution_options(populate_existing=True)
    )
    if lock:
        statement = statement.with_for_update()
    return list((await session.execute(statement)).scalars())


async def active_after(session: AsyncSession, after: UUID | None, size: int) -> list[Authorisation]:
    """All that run, by id, a page at a time."""
    statement = select(A).where(A.state == AuthorisationState.active).order_by(A.id).limit(size)
    if after is not None:
        statement = statement.where(A.id > after)
    return list((await session.execute(statement)).scalars())


async def in_state(
    session: AsyncSession, ids: Collection[UUID], state: AuthorisationState
) -> set[UUID]:
    statement = select(A.id).where(A.id.in_(ids), A.state == state.value)
    return set((await session.execute(statement)).scalars())


async def accounts_running(session: AsyncSession) -> list[UUID]:
    statement = select(A.account_id).where(A.state == AuthorisationState.active).distinct()
    return list((await session.execute(statement)).scalars())


def bills_of(account_id: UUID) -> Select[Authorisation]:
    """Those that ran, newest first."""
    return (
        select(A)
        .where(A.account_id == account_id, A.started_at.is_not(None))
        .order_by(A.started_at.desc(), A.id.desc())
    )


async def count_by_state(session: AsyncSession) -> dict[str, int]:
    statement = select(A.state, func.count()).group_by(A.state)
    return {row[0]: row[1] for row in (await session.execute(statement)).all()}


async def proven_longest_ago(session: AsyncSession) -> datetime | None:
    """Of those that run; None when none does."""
    statement = select(func.min(func.coalesce(A.proven_until, A.started_at))).where(
        A.state == AuthorisationState.active.value
    )
    return (await session.execute(statement)).scalar_one()
