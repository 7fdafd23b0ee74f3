"""Reservations at other services, from before they are asked until they are used or given back."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.models import Reservation


async def put(session: AsyncSession, reservation: Reservation) -> Reservation:
    """The one already on record for this request, or this one."""
    values = {c.name: getattr(reservation, c.name) for c in Reservation.__table__.columns}
    await session.execute(insert(Reservation).values(**values).on_conflict_do_nothing())
    statement = select(Reservation).where(
        Reservation.owner_id == reservation.owner_id, Reservation.request == reservation.request
    )
    return (await session.execute(statement)).scalar_one()


async def take(session: AsyncSession, reservation_id: UUID) -> bool:
    """Once for each: it is off the record. False when somebody took it before."""
    statement = delete(Reservation).where(Reservation.id == reservation_id)
    taken = await session.execute(
        statement.returning(Reservation.id).execution_options(synchronize_session=False)
    )
    return taken.first() is not None


async def made_before(session: AsyncSession, before: datetime) -> list[Reservation]:
    statement = select(Reservation).where(Reservation.made_at < before)
    return list((await session.execute(statement)).scalars())
