"""A host becomes a node: its invitation is taken, the broker lets it in, it gets its credential.

What the broker is asked for is on record first, and asked with no transaction open. A crash on the
way loses nothing: the agent repeats its join and gets a fresh password; where it never does, the
half-made login is dismissed (`dismissing.py`). Only one question about a node is under way at a
time, so that the password on record is the one that the broker has.
"""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.clients.admission import login_of, queues_of
from services.scheduler.domain.joining import (
    CredentialState,
    InvitationState,
    require_credential,
    require_invitation,
)
from services.scheduler.errors import (
    AgentJoined,
    InvitationOver,
    InvitationUnknown,
    InvitationUsed,
)
from services.scheduler.inviting import hash_of, read_ca, require_admission
from services.scheduler.models import Credential, Invitation, Node
from services.scheduler.repository import joining as rows
from services.scheduler.repository import nodes as host
from services.scheduler.settings import SchedulerSettings
from services.scheduler.tools import Tools
from shared.bus.admission import Admission, BrokerAway, BrokerRefused
from shared.clock import utc_now
from shared.errors import Unavailable
from shared.ids import new_id

log = structlog.get_logger(__name__)

# The broker answers within the first, or not at all; the second keeps others out until then.
ASK_S = 10.0
CLAIM_S = 15.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Join:
    """agent_id: the agent made and keeps it."""

    secret: str
    agent_id: UUID
    name: str
    region: str


@dataclass(frozen=True, slots=True)
class Joined:
    """bus_url: with the node's own login. ca_pem: empty where none is needed."""

    node_id: UUID
    bus_url: str
    registry_address: str
    registry_username: str
    registry_password: str
    ca_pem: str


async def join(tools: Tools, wish: Join) -> Joined:
    """Raises NeedsSplitShape, InvitationUnknown, InvitationUsed, InvitationOver, AgentJoined,
    Unavailable."""
    admission = require_admission(tools)
    password, attempt = secrets.token_urlsafe(32), new_id()
    async with tools.database.transaction() as session:
        node_id = await _claim(session, wish, hash_of(password), attempt)
    await _admit(tools, admission, node_id, password, attempt)
    async with tools.database.transaction() as session:
        confirmed = await _confirm(session, node_id, attempt)
    if not confirmed:
        raise Unavailable
    log.info("node_joined", node_id=str(node_id), name=wish.name)
    settings = tools.settings
    return Joined(
        node_id=node_id,
        bus_url=_with_login(settings, login_of(node_id), password),
        registry_address=settings.registry_public_address,
        registry_username=login_of(node_id),
        registry_password=password,
        ca_pem=await read_ca(settings),
    )


def _with_login(settings: SchedulerSettings, login: str, password: str) -> str:
    url = urlsplit(settings.broker_public_url)
    return url._replace(netloc=f"{quote(login)}:{quote(password)}@{url.netloc}").geturl()


async def _claim(session: AsyncSession, wish: Join, password_hash: str, attempt: UUID) -> UUID:
    """The node that this agent may be; it is on record that the broker is to be asked."""
    invitation = await rows.by_secret(session, hash_of(wish.secret))
    if invitation is None:
        raise InvitationUnknown(field="secret")
    now = utc_now()
    if invitation.state == InvitationState.expired or invitation.expires_at <= now:
        raise InvitationOver(field="secret")
    if invitation.state == InvitationState.used:
        credential = await _repeated(session, invitation, wish)
    else:
        credential = await _first(session, invitation, wish, attempt, now)
        require_invitation(InvitationState(invitation.state), InvitationState.used)
        invitation.state = InvitationState.used.value
        invitation.agent_id, invitation.node_id = wish.agent_id, credential.node_id
    if credential.busy_until > now:
        raise Unavailable
    require_credential(CredentialState(credential.state), CredentialState.admitting)
    credential.state = CredentialState.admitting.value
    credential.password_hash = password_hash
    credential.attempt = attempt
    credential.busy_until = now + timedelta(seconds=CLAIM_S)
    credential.changed_at = now
    return credential.node_id


async def _repeated(session: AsyncSession, invitation: Invitation, wish: Join) -> Credential:
    """The same agent again: the answer was lost. What was revoked since stays out."""
    if invitation.agent_id != wish.agent_id or invitation.node_id is None:
        raise InvitationUsed(field="secret")
    credential = await rows.of_node(session, invitation.node_id, lock=True)
    live = (CredentialState.admitting.value, CredentialState.admitted.value)
    if credential is None or credential.state not in live:
        raise InvitationOver(field="secret")
    return credential


async def _first(
    session: AsyncSession, invitation: Invitation, wish: Join, attempt: UUID, now: datetime
) -> Credential:
    """A host that was revoked comes back as the node that it was."""
    known = await rows.of_agent(session, wish.agent_id)
    if known is not None and known.state == CredentialState.dismissing:
        raise Unavailable
    if known is not None and known.state != CredentialState.dismissed:
        raise AgentJoined(field="agent_id")
    if known is not None:
        node = await host.find_node(session, known.node_id, lock=True)
        again = await rows.of_node(session, known.node_id, lock=True)
        if node is not None and again is not None and node.state != "removed":
            node.given_name, node.given_region = invitation.name, invitation.region
            return again
    node = _new_node(wish, invitation, now)
    session.add(node)
    await session.flush()
    # Made as one that may be admitted, and idle: the caller takes it from there.
    credential = Credential(
        node_id=node.id, agent_id=wish.agent_id, state=CredentialState.admitting.value,
        password_hash="", attempt=attempt, busy_until=now, changed_at=now,
    )  # fmt: skip
    if not await rows.add(session, credential):
        raise Unavailable
    made = await rows.of_node(session, node.id, lock=True)
    if made is None:
        raise LookupError(f"credential of {node.id} was made and is not there")
    return made


def _new_node(wish: Join, invitation: Invitation, now: datetime) -> Node:
    """Silent and without devices until its first report, which is newer than LONG_AGO."""
    return Node(
        id=new_id(),
        name=invitation.name or wish.name,
        region=invitation.region or wish.region,
        given_name=invitation.name,
        given_region=invitation.region,
        simulated=False,
        state="silent",
        cpu_model="",
        cpu_cores=0.0,
        memory_bytes=0,
        disk_bytes=0,
        disk_free_bytes=0,
        driver_version="",
        max_cuda="",
        tflops=0.0,
        address="",
        app_address="",
        port_first=0,
        port_last=-1,
        next_port=0,
        boot_id="",
        sequence=0,
        reported_at=LONG_AGO,
        heard_at=now,
        revoked=True,
        created_at=now,
    )


async def _admit(
    tools: Tools, admission: Admission, node_id: UUID, password: str, attempt: UUID
) -> None:
    """Raises Unavailable."""
    try:
        async with asyncio.timeout(ASK_S):
            await admission.admit(login_of(node_id), password, queues_of(node_id), may_report=True)
    except TimeoutError as late:
        log.warning("admission_late", node_id=str(node_id))
        raise Unavailable from late
    except (BrokerAway, BrokerRefused) as error:
        log.warning("admission_failed", node_id=str(node_id), error=repr(error))
        async with tools.database.transaction() as session:
            credential = await rows.of_node(session, node_id, lock=True)
            if credential is not None and credential.attempt == attempt:
                credential.busy_until = utc_now()
        raise Unavailable from error


async def _confirm(session: AsyncSession, node_id: UUID, attempt: UUID) -> bool:
    """False when it was revoked meanwhile."""
    node = await host.find_node(session, node_id, lock=True)
    credential = await rows.of_node(session, node_id, lock=True)
    if node is None or credential is None or credential.attempt != attempt:
        return False
    credential.busy_until = utc_now()
    if credential.state != CredentialState.admitting:
        return False
    credential.state = CredentialState.admitted.value
    credential.changed_at = credential.busy_until
    node.revoked = False
    return True
