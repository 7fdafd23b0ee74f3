"""/api/v1/nodes: the hosts, for operators."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from services.scheduler import contact, operating, reading
from services.scheduler.api.node_schemas import BreakerView, NodesView, NodeView
from services.scheduler.api.schemas import Nothing
from services.scheduler.deps import ToolsDep
from shared.app import Session
from shared.pagination import Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"])


@router.get("", summary="Hosts and their GPUs", **policy(Policy.OPERATOR))
async def list_nodes(session: Session, paging: Paging) -> NodesView:
    """With the breaker: while it is open, no silent host is declared lost."""
    shown, total = await reading.list_nodes(session, paging)
    return NodesView(
        items=[NodeView.of(one) for one in shown],
        total=total,
        page=paging.page,
        size=paging.size,
        breaker=BreakerView.of(await reading.read_breaker(session)),
    )


@router.post("/breaker/close", summary="The silent hosts are gone", **policy(Policy.OPERATOR))
async def close_breaker(
    caller: Caller, session: Session, body: Nothing | None = None
) -> BreakerView:
    """An operator vouches that the hosts are silent indeed, and not the platform deaf: they are
    declared lost."""
    return BreakerView.of(await contact.close_breaker(session, caller.id))


@router.get("/{node_id}", summary="One host", **policy(Policy.OPERATOR))
async def show_node(node_id: UUID, session: Session) -> NodeView:
    return NodeView.of(await reading.read_node(session, node_id))


@router.post("/{node_id}/drain", summary="Place nothing new", **policy(Policy.OPERATOR))
async def drain_node(
    node_id: UUID, caller: Caller, session: Session, tools: ToolsDep, body: Nothing | None = None
) -> NodeView:
    """What runs there goes on, and may be restarted, stopped and released."""
    node = await operating.drain(session, tools, node_id, caller.id)
    return NodeView.of(await reading.show_node(session, node))


@router.post("/{node_id}/resume", summary="Place again", **policy(Policy.OPERATOR))
async def resume_node(
    node_id: UUID, caller: Caller, session: Session, tools: ToolsDep, body: Nothing | None = None
) -> NodeView:
    node = await operating.resume(session, tools, node_id, caller.id)
    return NodeView.of(await reading.show_node(session, node))


@router.delete("/{node_id}", status_code=204, summary="Remove it", **policy(Policy.OPERATOR))
async def remove_node(
    node_id: UUID,
    caller: Caller,
    session: Session,
    tools: ToolsDep,
    force: Annotated[bool, Query()] = False,
) -> None:
    """Refused while anything stands there. force: of a silent or lost host whose machine is gone,
    as you vouch: its instances are released, and their disks with them."""
    await operating.remove(session, tools, node_id, caller.id, force=force)
