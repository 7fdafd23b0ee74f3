"""Hosts join: /api/v1/nodes/invitations, /api/v1/nodes/join, and the proof of who a node is."""

from uuid import UUID

from fastapi import APIRouter, Response

from services.scheduler import dismissing, inviting
from services.scheduler.api.node_schemas import (
    InvitationView,
    JoinedView,
    JoinWish,
    LoginWish,
    NewInvitation,
    NodeView,
)
from services.scheduler.api.schemas import Nothing
from services.scheduler.deps import ClientAddress, ToolsDep
from services.scheduler.joining import join
from services.scheduler.reading import show_node
from shared.app import Session
from shared.policy import Caller, Policy, policy

router = APIRouter(tags=["nodes"])


@router.post(
    "/api/v1/nodes/invitations", status_code=201, summary="Invite a host",
    **policy(Policy.OPERATOR),
)  # fmt: skip
async def invite_node(
    body: NewInvitation, caller: Caller, session: Session, tools: ToolsDep, response: Response
) -> InvitationView:
    """For one host, once. The token is shown here alone and kept nowhere, so each call makes
    another invitation; one that nobody uses ends by itself."""
    response.headers["cache-control"] = "no-store"
    return InvitationView.of(await inviting.invite(session, tools, body.guest(), caller.id))


@router.post("/api/v1/nodes/join", summary="Join as a host", **policy(Policy.PUBLIC))
async def join_node(
    body: JoinWish, tools: ToolsDep, address: ClientAddress, response: Response
) -> JoinedView:
    """With an invitation's secret. The same agent may repeat it while the invitation lasts; each
    answer has a fresh password, and the one before it ends."""
    response.headers["cache-control"] = "no-store"
    await tools.joins.count(address)
    joined = JoinedView.of(await join(tools, body.join()))
    await tools.joins.give_back(address)
    return joined


@router.post(
    "/api/v1/nodes/{node_id}/revoke", summary="Take its credential back",
    **policy(Policy.OPERATOR),
)  # fmt: skip
async def revoke_node(
    node_id: UUID, caller: Caller, session: Session, tools: ToolsDep, body: Nothing | None = None
) -> NodeView:
    """What it says counts no more, and the broker shuts it out. The node itself stays: it may join
    again with a new invitation."""
    node = await dismissing.revoke(session, tools, node_id, caller.id)
    return NodeView.of(await show_node(session, node))


@router.post(
    "/internal/nodes/verify", status_code=204, summary="Is this a node's login?",
    tags=["internal"], **policy(Policy.SERVICE),
)  # fmt: skip
async def verify_node(body: LoginWish, session: Session) -> None:
    await dismissing.verify(session, body.login, body.password)
