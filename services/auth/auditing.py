"""The trail of who did what: facts as they were told, and auth's own that nobody else needs."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import AuditEntry
from shared.clock import utc_now
from shared.events.envelope import Envelope
from shared.ids import new_id


async def record_fact(session: AsyncSession, envelope: Envelope) -> None:
    """One entry per event; its id is the event's."""
    session.add(
        AuditEntry(
            id=envelope.id,
            at=envelope.time,
            recorded_at=utc_now(),
            source=envelope.source,
            type=envelope.type,
            subject=envelope.subject,
            actor_id=envelope.actor,
            data=dict(envelope.data),
        )
    )


async def record_own(session: AsyncSession, type_: str, subject: UUID, *, actor: UUID) -> None:
    """What happened here and is no event: logins, password changes."""
    now = utc_now()
    session.add(
        AuditEntry(
            id=new_id(),
            at=now,
            recorded_at=now,
            source="auth",
            type=type_,
            subject=str(subject),
            actor_id=actor,
            data={},
        )
    )
