"""What people are shown of instances and nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.node_states import NodeState, takes_new
from services.scheduler.domain.placement import availability
from services.scheduler.domain.states import State
from services.scheduler.models import Breaker, Gpu, HistoryEntry, Instance, Node
from services.scheduler.repository import instances as rows
from services.scheduler.repository import joining
from services.scheduler.repository import nodes as host
from shared.errors import NotFound
from shared.events.scheduler import CredentialsRead
from shared.outbox import emit
from shared.pagination import PageRequest, fetch_page
from shared.tokens import Principal


@dataclass(frozen=True, slots=True)
class Shown:
    """gpu_availability: plenty, scarce, none; None where it does not matter."""

    instance: Instance
    node: Node
    gpus: list[host.DeviceOf]
    gpu_model: str
    gpu_availability: str | None


@dataclass(frozen=True, slots=True)
class ShownNode:
    """credential: its state; None for a node of the platform's own process."""

    node: Node
    gpus: list[Gpu]
    credential: str | None


async def show(session: AsyncSession, instances: Sequence[Instance]) -> list[Shown]:
    node_ids = {i.node_id for i in instances}
    nodes = await host.nodes_by_id(session, node_ids)
    held = await host.devices_of(session, [i.id for i in instances])
    free = await host.free_counts(session, node_ids)
    shown = []
    for instance in instances:
        node = nodes[instance.node_id]
        at_rest = instance.state in (State.stopped.value, State.failed.value)
        open_ = takes_new(node.state, draining=node.draining)
        left = free.get(node.id, 0) if open_ else 0
        shown.append(
            Shown(
                instance=instance,
                node=node,
                gpus=held.get(instance.id, []),
                gpu_model=(node.told or {}).get("gpu_model", ""),
                gpu_availability=availability(left, instance.gpu_count) if at_rest else None,
            )
        )
    return shown


async def list_instances(
    session: AsyncSession, owner_id: UUID, state: State | None, paging: PageRequest
) -> tuple[list[Shown], int]:
    found, total = await fetch_page(session, rows.owned(owner_id, state), paging)
    return await show(session, found), total


async def read_instance(session: AsyncSession, instance_id: UUID, owner_id: UUID) -> Shown:
    """Raises NotFound."""
    found = await rows.get_instance(session, instance_id, owner_id=owner_id)
    return (await show(session, [found]))[0]


async def read_credentials(session: AsyncSession, instance_id: UUID, owner_id: UUID) -> Instance:
    """Who read them, and when, is told to the audit trail. Raises NotFound."""
    found = await rows.get_instance(session, instance_id, owner_id=owner_id)
    told = CredentialsRead(instance_id=found.id, account_id=found.account_id)
    await emit(session, told, subject=found.id, actor=owner_id)
    return found


async def read_app(
    session: AsyncSession, instance_id: UUID, caller: Principal, *, any_owner: bool
) -> tuple[Instance, Node]:
    """Raises NotFound."""
    owner_id = None if any_owner else caller.id
    found = await rows.get_instance(session, instance_id, owner_id=owner_id)
    node = await host.find_node(session, found.node_id)
    if node is None:
        raise NotFound
    return found, node


async def list_history(
    session: AsyncSession, instance_id: UUID, owner_id: UUID, paging: PageRequest
) -> tuple[list[HistoryEntry], int]:
    """Newest first. Raises NotFound."""
    await rows.get_instance(session, instance_id, owner_id=owner_id)
    return await fetch_page(session, rows.history_of(instance_id), paging)


async def list_nodes(session: AsyncSession, paging: PageRequest) -> tuple[list[ShownNode], int]:
    found, total = await fetch_page(session, host.all_nodes(), paging)
    credentials = await joining.states_of(session, [node.id for node in found])
    shown = [
        ShownNode(node, await host.devices(session, node.id), credentials.get(node.id))
        for node in found
    ]
    return shown, total


async def read_node(session: AsyncSession, node_id: UUID) -> ShownNode:
    """Raises NotFound."""
    node = await host.find_node(session, node_id)
    if node is None or node.state == NodeState.removed:
        raise NotFound
    return await show_node(session, node)


async def show_node(session: AsyncSession, node: Node) -> ShownNode:
    credentials = await joining.states_of(session, [node.id])
    return ShownNode(node, await host.devices(session, node.id), credentials.get(node.id))


async def read_breaker(session: AsyncSession) -> Breaker:
    return await host.find_breaker(session)
