"""An operator lets one host join."""

import asyncio
import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.joining import InvitationState
from services.scheduler.errors import NeedsSplitShape
from services.scheduler.models import Invitation
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tools import Tools
from shared.bus.admission import Admission
from shared.clock import utc_now
from shared.ids import new_id

log = structlog.get_logger(__name__)

TOKEN_MARK = "csj1."  # noqa: S105 - the mark of its version


@dataclass(frozen=True, slots=True)
class Guest:
    """name, region: what the node is called whatever its agent says; None: as the agent says."""

    name: str | None
    region: str | None
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class Invited:
    """token: for the host, shown this once."""

    invitation: Invitation
    token: str


def require_admission(tools: Tools) -> Admission:
    """Raises NeedsSplitShape."""
    if tools.admission is None:
        raise NeedsSplitShape
    return tools.admission


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def read_ca(settings: SchedulerSettings) -> str:
    """PEM; empty where agents need none."""
    if settings.ca_file is None:
        return ""
    return await asyncio.to_thread(Path(settings.ca_file).read_text)


async def invite(session: AsyncSession, tools: Tools, guest: Guest, by: UUID) -> Invited:
    """Raises NeedsSplitShape."""
    require_admission(tools)
    now = utc_now()
    secret = secrets.token_urlsafe(32)
    invitation = Invitation(
        id=new_id(),
        state=InvitationState.open.value,
        secret_hash=hash_of(secret),
        name=guest.name,
        region=guest.region,
        created_by=by,
        created_at=now,
        expires_at=now + timedelta(seconds=guest.expires_in_s),
    )
    session.add(invitation)
    await session.flush()
    log.info("node_invited", invitation_id=str(invitation.id), by=str(by))
    return Invited(invitation, _token(tools.settings, secret, await read_ca(tools.settings)))


def _token(settings: SchedulerSettings, secret: str, ca_pem: str) -> str:
    """Where to go, with what, and by which certificate the right place is known."""
    fingerprint = hash_of(ca_pem) if ca_pem else ""
    content = json.dumps({"u": settings.public_url, "s": secret, "c": fingerprint})
    return TOKEN_MARK + base64.urlsafe_b64encode(content.encode()).decode()
