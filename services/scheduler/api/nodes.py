"""/api/v1/nodes: the hosts, for operators."""

from uuid import UUID

from fastapi import APIRouter

from services.scheduler import reading
from services.scheduler.api.node_schemas import NodeView
from shared.app import Session
from shared.pagination import Page, Paging
from shared.policy import Policy, policy

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"])


@router.get("", summary="Hosts and their GPUs", **policy(Policy.OPERATOR))
async def list_nodes(session: Session, paging: Paging) -> Page[NodeView]:
    shown, total = await reading.list_nodes(session, paging)
    items = [NodeView.of(one) for one in shown]
    return Page(items=items, total=total, page=paging.page, size=paging.size)


@router.get("/{node_id}", summary="One host", **policy(Policy.OPERATOR))
async def show_node(node_id: UUID, session: Session) -> NodeView:
    return NodeView.of(await reading.read_node(session, node_id))
