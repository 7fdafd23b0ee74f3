"""Promises GPUs: at once where they are free, and to those who wait as they come back."""

from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.node_states import NodeState
from services.scheduler.domain.placement import (
    WHOLE,
    Ask,
    Device,
    NodeSnapshot,
    Plan,
    Refusal,
    place,
)
from services.scheduler.domain.states import State
from services.scheduler.models import Instance, Node
from services.scheduler.moving import move, words
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.signals import Signals
from services.scheduler.telling import tell_node
from services.scheduler.tools import Tools
from shared.clock import utc_now

log = structlog.get_logger(__name__)


async def snapshot(session: AsyncSession, node: Node, *, waiting: int) -> NodeSnapshot:
    return NodeSnapshot(
        node_id=node.id,
        online=node.state == NodeState.online,
        draining=node.draining,
        max_cuda=node.max_cuda,
        devices=tuple(
            Device(gpu.uuid, gpu.index, WHOLE - gpu.promised_milli, gpu.healthy)
            for gpu in await host.devices(session, node.id)
            if gpu.present
        ),
        waiting=waiting,
    )


async def plan_on(
    session: AsyncSession, node: Node, *, gpu_count: int, cuda: str = "", waiting: int
) -> Plan | Refusal:
    """Needs the node's lock for the plan to hold."""
    seen = await snapshot(session, node, waiting=waiting)
    answer = place([seen], Ask(gpu_count=gpu_count, node_id=node.id, cuda=cuda))
    return answer if isinstance(answer, Plan) else answer[0]


async def promise_plan(
    session: AsyncSession, node: Node, plan: Plan, instance_id: UUID, now: datetime
) -> None:
    """Needs the node's lock. Raises PlacementStale."""
    await host.promise(session, node.id, plan.gpu_uuids, instance_id, milli=WHOLE, now=now)
    await tell_node(session, node)


async def return_gpus(
    session: AsyncSession, signals: Signals, node: Node, instance_id: UUID
) -> None:
    """Needs the node's lock. Only where the container is proven gone or never was."""
    if await host.return_promises(session, instance_id):
        await tell_node(session, node)
        signals.capacity_returned(session)


async def place_waiting(tools: Tools) -> None:
    """One pass over all queues, first come first placed on each host."""
    async with tools.database.transaction() as session:
        node_ids = await rows.nodes_with_waiting(session)
    for node_id in node_ids:
        try:
            async with tools.database.transaction() as session:
                await _place_on(session, tools.signals, node_id)
        except (rows.Stale, host.PlacementStale) as stale:
            log.info("placement_stale", node_id=str(node_id), reason=str(stale))
        except Exception:
            # One host's trouble does not hold up the others' queues.
            log.exception("queue_not_placed", node_id=str(node_id))


async def _place_on(session: AsyncSession, signals: Signals, node_id: UUID) -> None:
    node = await host.find_node(session, node_id, lock=True)
    if node is None:
        return
    ahead = 0
    for instance_id in await rows.waiting_on(session, node_id):
        instance = await rows.get_instance(session, instance_id, owner_id=None, lock=True)
        if instance.state != State.queued.value:
            continue
        answer = await plan_on(session, node, gpu_count=instance.gpu_count, waiting=ahead)
        if isinstance(answer, Plan):
            await _place(session, signals, node, instance, answer)
            continue
        ahead += 1
        if words(answer.reason) != instance.status_reason:
            await rows.change(session, instance, status_reason=words(answer.reason))


async def _place(
    session: AsyncSession, signals: Signals, node: Node, instance: Instance, plan: Plan
) -> None:
    now = utc_now()
    await promise_plan(session, node, plan, instance.id, now)
    await move(
        session, signals, instance, State.creating, cause="placed", now=now,
        start_ordered_at=now, progress_at=now,
    )  # fmt: skip
    log.info("instance_placed", instance_id=str(instance.id), node=node.name, gpus=plan.gpu_uuids)
