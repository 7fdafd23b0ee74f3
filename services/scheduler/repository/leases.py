"""How far each account's money reaches."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.models import Reach


async def put(
    session: AsyncSession, account_id: UUID, paid_until: datetime, said_at: datetime
) -> bool:
    """False when something newer is known already."""
    row = insert(Reach).values(account_id=account_id, paid_until=paid_until, said_at=said_at)
    row = row.on_conflict_do_update(
        index_elements=[Reach.account_id],
        set_={"paid_until": row.excluded.paid_until, "said_at": row.excluded.said_at},
        where=Reach.said_at < row.excluded.said_at,
    )
    written = await session.execute(row.returning(Reach.account_id))
    return written.first() is not None


async def of_accounts(session: AsyncSession, accounts: Collection[UUID]) -> dict[UUID, datetime]:
    statement = select(Reach.account_id, Reach.paid_until).where(Reach.account_id.in_(accounts))
    return {row.account_id: row.paid_until for row in await session.execute(statement)}
