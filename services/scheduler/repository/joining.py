"""Invitations and credentials of nodes."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.joining import CredentialState, InvitationState
from services.scheduler.models import Credential, Invitation


async def by_secret(session: AsyncSession, secret_hash: str) -> Invitation | None:
    """With its lock."""
    statement = select(Invitation).where(Invitation.secret_hash == secret_hash)
    return (await session.execute(statement.with_for_update())).scalar_one_or_none()


async def expire(session: AsyncSession, now: datetime) -> None:
    statement = (
        update(Invitation)
        .where(Invitation.state == InvitationState.open.value, Invitation.expires_at <= now)
        .values(state=InvitationState.expired.value)
        .execution_options(synchronize_session=False)
    )
    await session.execute(statement)


async def of_node(session: AsyncSession, node_id: UUID, *, lock: bool = False) -> Credential | None:
    return await session.get(
        Credential, node_id, with_for_update=lock or None, populate_existing=lock
    )


async def of_agent(session: AsyncSession, agent_id: UUID) -> Credential | None:
    """The newest."""
    statement = (
        select(Credential)
        .where(Credential.agent_id == agent_id)
        .order_by(Credential.changed_at.desc())
        .limit(1)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def add(session: AsyncSession, credential: Credential) -> bool:
    """False when the agent has another live one."""
    values = {c.name: getattr(credential, c.name) for c in Credential.__table__.columns}
    row = insert(Credential).values(**values).on_conflict_do_nothing().returning(Credential.node_id)
    return (await session.execute(row)).first() is not None


async def states_of(session: AsyncSession, node_ids: Collection[UUID]) -> dict[UUID, str]:
    statement = select(Credential.node_id, Credential.state).where(Credential.node_id.in_(node_ids))
    return {row.node_id: row.state for row in await session.execute(statement)}


async def in_state(
    session: AsyncSession, state: CredentialState, *, idle_since: datetime
) -> list[UUID]:
    """Those that nobody has been asking the broker about since then."""
    statement = select(Credential.node_id).where(
        Credential.state == state.value, Credential.busy_until <= idle_since
    )
    return list((await session.execute(statement)).scalars())
