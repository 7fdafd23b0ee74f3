"""What operators do with a node: empty it, take it back into use, remove it."""

from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.contact import lose_node
from services.scheduler.dismissing import take_back
from services.scheduler.domain.node_states import NodeState
from services.scheduler.domain.states import State, StopReason
from services.scheduler.errors import NodeAlive, NodeInUse
from services.scheduler.models import Node
from services.scheduler.moving import move_node
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.stopping import release, tell_release
from services.scheduler.telling import tell_node
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.errors import NotFound

log = structlog.get_logger(__name__)


async def drain(session: AsyncSession, tools: Tools, node_id: UUID, by: UUID) -> Node:
    """Nothing new is placed; what runs goes on. Raises NotFound."""
    return await _set_draining(session, tools, node_id, by, draining=True)


async def resume(session: AsyncSession, tools: Tools, node_id: UUID, by: UUID) -> Node:
    """Raises NotFound."""
    return await _set_draining(session, tools, node_id, by, draining=False)


async def _set_draining(
    session: AsyncSession, tools: Tools, node_id: UUID, by: UUID, *, draining: bool
) -> Node:
    node = await _locked(session, node_id)
    if node.draining is not draining:
        node.draining = draining
        await tell_node(session, node)
        # Those that wait are placed, or told why they are not.
        tools.signals.capacity_returned(session)
        log.info("node_draining", node=node.name, draining=draining, by=str(by))
    return node


async def remove(
    session: AsyncSession, tools: Tools, node_id: UUID, by: UUID, *, force: bool
) -> None:
    """For good: nothing it says counts any more. force: the operator vouches that the machine is
    gone, so that what is still on record there ends with it, disks included. Raises NotFound,
    NodeInUse, NodeAlive."""
    node = await _locked(session, node_id)
    instances = await rows.count_on_node(session, node_id)
    promises = await host.count_promises(session, node_id)
    if instances or promises:
        if not force:
            raise NodeInUse(instances=instances, promises=promises)
        if node.state == NodeState.online:
            raise NodeAlive
        await _give_up(session, tools, node, by)
    move_node(node, NodeState.removed)
    await take_back(session, tools, node)
    await tell_node(session, node)
    log.warning("node_removed", node=node.name, by=str(by), force=force, instances=instances)


async def _give_up(session: AsyncSession, tools: Tools, node: Node, by: UUID) -> None:
    if node.state == NodeState.silent:
        await lose_node(session, tools, node)
    for instance in await rows.lock_on_node(session, node.id):
        await release(session, tools.signals, instance, actor=by, reason=StopReason.host_down)
        now = utc_now()
        await moving.move(
            session, tools.signals, instance, State.released, cause="node_removed", now=now,
            actor=by, reorders=False, released_at=now,
        )  # fmt: skip
        await host.return_promises(session, instance.id)
        await tell_release(session, instance)


async def _locked(session: AsyncSession, node_id: UUID) -> Node:
    node = await host.find_node(session, node_id, lock=True)
    if node is None or node.state == NodeState.removed:
        raise NotFound
    return node
