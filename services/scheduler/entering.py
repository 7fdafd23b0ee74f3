"""Who may enter an instance: the projection of auth's SSH keys."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.models import SshKey
from services.scheduler.repository import instances as rows
from services.scheduler.signals import Signals


async def keep_key(
    session: AsyncSession, signals: Signals, *, key_id: UUID, account_id: UUID, line: str | None
) -> None:
    """line: None for a removed key. Agents get the new set with the next orders."""
    key = SshKey(key_id=key_id, account_id=account_id, public_key=line or "", removed=line is None)
    await rows.put_key(session, key)
    for node_id in await rows.nodes_of_account(session, account_id):
        signals.order_changed(session, node_id)
