"""What is reserved at other services for a request is on record here before it is asked for.

A crash between their answer and our commit loses nothing: the same request, sent again with its
key, finds the record and asks for the same thing; if it never comes again, the record is given
back after a while. Market and registry take both asking and giving back twice.
"""

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.models import Reservation
from services.scheduler.repository import reservations as rows
from services.scheduler.tools import Tools
from shared.database import Database, database_now
from shared.events.scheduler import InstanceSaveFailed
from shared.ids import new_id
from shared.outbox import emit

log = structlog.get_logger(__name__)

START, IMAGE = "start", "image"


async def reserve(
    database: Database,
    *,
    kind: str,
    owner_id: UUID,
    operation: str,
    key: str | None,
    instance_id: UUID | None,
) -> Reservation:
    """On record when it returns. kind: START or IMAGE. key: of the request; without one it is a
    record of its own. instance_id: None for an instance that is yet to be."""
    async with database.transaction() as session:
        reservation = Reservation(
            id=new_id(),
            kind=kind,
            owner_id=owner_id,
            request=f"{operation} {key or new_id()}",
            instance_id=instance_id or new_id(),
            made_at=await database_now(session),
        )
        return await rows.put(session, reservation)


async def give_back(session: AsyncSession, reservation: Reservation) -> None:
    """Unless it was used or given back already."""
    if not await rows.take(session, reservation.id):
        return
    if reservation.kind == START:
        await moving.abandon_start(
            session,
            instance_id=reservation.instance_id,
            account_id=reservation.owner_id,
            authorisation_id=reservation.id,
            reason="refused",
        )
    else:
        failed = InstanceSaveFailed(
            instance_id=reservation.instance_id, image_id=reservation.id, reason="refused"
        )
        await emit(session, failed, subject=reservation.instance_id)


async def give_back_forgotten(tools: Tools) -> None:
    """One pass over what no request came back for; each in a transaction of its own."""
    lives = timedelta(seconds=tools.settings.reservation_lives_s)
    async with tools.database.transaction() as session:
        before = await database_now(session) - lives
        forgotten = await rows.made_before(session, before)
    for reservation in forgotten:
        try:
            async with tools.database.transaction() as session:
                await give_back(session, reservation)
            log.info("reservation_forgotten", id=str(reservation.id), kind=reservation.kind)
        except Exception:
            log.exception("reservation_not_given_back", id=str(reservation.id))
