"""A node's credential is taken back: at once here, and at the broker as soon as it answers."""

import asyncio
import hmac
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.clients.admission import login_of, queues_of
from services.scheduler.domain.joining import CredentialState, require_credential
from services.scheduler.inviting import hash_of
from services.scheduler.joining import ASK_S, CLAIM_S
from services.scheduler.models import Node
from services.scheduler.repository import joining as rows
from services.scheduler.repository import nodes as host
from services.scheduler.tools import Tools
from shared.bus.admission import Admission, BrokerAway, BrokerRefused
from shared.clock import utc_now
from shared.errors import NotFound, Unauthenticated
from shared.ids import new_id

log = structlog.get_logger(__name__)

# A join that no agent came back for; longer than any agent waits between two tries.
HALF_JOINED_S = 600.0


async def revoke(session: AsyncSession, tools: Tools, node_id: UUID, by: UUID) -> Node:
    """The node stays; nothing it says counts any more. Raises NotFound."""
    node = await host.find_node(session, node_id, lock=True)
    if node is None or node.state == "removed":
        raise NotFound
    await take_back(session, tools, node)
    log.info("node_revoked", node_id=str(node_id), by=str(by))
    return node


async def take_back(session: AsyncSession, tools: Tools, node: Node) -> None:
    """Needs the node's lock. Nothing to do for a node without a credential of its own."""
    credential = await rows.of_node(session, node.id, lock=True)
    if credential is None:
        return
    node.revoked = True
    live = (CredentialState.admitting, CredentialState.admitted)
    if CredentialState(credential.state) in live:
        require_credential(CredentialState(credential.state), CredentialState.dismissing)
        credential.state = CredentialState.dismissing.value
        credential.changed_at = utc_now()
    tools.signals.joining_changed(session)


async def verify(session: AsyncSession, login: str, password: str) -> None:
    """Raises Unauthenticated, with no word of what was wrong."""
    try:
        node_id = UUID(login.removeprefix("node."))
    except ValueError as error:
        raise Unauthenticated from error
    credential = await rows.of_node(session, node_id)
    if credential is None or login != login_of(node_id):
        raise Unauthenticated
    if credential.state != CredentialState.admitted:
        raise Unauthenticated
    if not hmac.compare_digest(credential.password_hash, hash_of(password)):
        raise Unauthenticated


async def drive_joining(tools: Tools) -> None:
    """One pass: old invitations end, half-made joins are given up, dismissals reach the broker."""
    now = utc_now()
    async with tools.database.transaction() as session:
        await rows.expire(session, now)
        given_up = await rows.in_state(
            session, CredentialState.admitting, idle_since=now - timedelta(seconds=HALF_JOINED_S)
        )
    for node_id in given_up:
        async with tools.database.transaction() as session:
            node = await host.find_node(session, node_id, lock=True)
            credential = await rows.of_node(session, node_id, lock=True)
            half = credential is not None and credential.state == CredentialState.admitting
            if node is not None and half:
                await take_back(session, tools, node)
    if tools.admission is None:
        return
    async with tools.database.transaction() as session:
        leaving = await rows.in_state(session, CredentialState.dismissing, idle_since=utc_now())
    for node_id in leaving:
        await _dismiss(tools, tools.admission, node_id)


async def _dismiss(tools: Tools, admission: Admission, node_id: UUID) -> None:
    attempt = new_id()
    async with tools.database.transaction() as session:
        credential = await rows.of_node(session, node_id, lock=True)
        now = utc_now()
        if credential is None or credential.state != CredentialState.dismissing:
            return
        if credential.busy_until > now:
            return
        credential.attempt = attempt
        credential.busy_until = now + timedelta(seconds=CLAIM_S)
    queues = [each.queue for each in queues_of(node_id)]
    try:
        async with asyncio.timeout(ASK_S):
            await admission.dismiss(login_of(node_id), queues)
    except (BrokerAway, BrokerRefused, TimeoutError) as error:
        log.warning("dismissal_failed", node_id=str(node_id), error=repr(error))
        return await _note_answer(tools, node_id, attempt, done=False)
    await _note_answer(tools, node_id, attempt, done=True)
    log.info("node_dismissed", node_id=str(node_id))


async def _note_answer(tools: Tools, node_id: UUID, attempt: UUID, *, done: bool) -> None:
    """Not done: the next pass asks again."""
    async with tools.database.transaction() as session:
        credential = await rows.of_node(session, node_id, lock=True)
        if credential is None or credential.attempt != attempt:
            return
        credential.busy_until = utc_now()
        if done:
            require_credential(CredentialState(credential.state), CredentialState.dismissed)
            credential.state = CredentialState.dismissed.value
            credential.changed_at = credential.busy_until
