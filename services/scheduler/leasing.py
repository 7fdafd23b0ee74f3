"""Until when a host that is cut off may let an account's instances run."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.repository import instances as rows
from services.scheduler.repository import leases
from services.scheduler.signals import Signals


async def note_reach(
    session: AsyncSession,
    signals: Signals,
    *,
    account_id: UUID,
    paid_until: datetime | None,
    said_at: datetime,
) -> None:
    """As the market says it, with a start or by itself; the newest word counts. Agents get it with
    their next orders. None: nothing costs anything, and nothing is to be noted."""
    if paid_until is None:
        return
    if await leases.put(session, account_id, paid_until, said_at):
        for node_id in await rows.nodes_of_account(session, account_id):
            signals.order_changed(session, node_id)
