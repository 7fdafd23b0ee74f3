"""Nodes, their devices, promises and ports.

Lock order: a node before its instances. Whoever promises, returns or tells holds the node's lock.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Text

from services.scheduler.domain.node_states import NodeState
from services.scheduler.models import Breaker, Gpu, Node, Port, Promise


class PlacementStale(RuntimeError):
    """The database refuses what the snapshot allowed; nothing has been promised."""


@dataclass(frozen=True, slots=True)
class DeviceOf:
    instance_id: UUID
    uuid: str
    index: int


async def find_node(session: AsyncSession, node_id: UUID, *, lock: bool = False) -> Node | None:
    """lock: nobody else promises or reports for it until this transaction ends."""
    return await session.get(Node, node_id, with_for_update=lock or None, populate_existing=lock)


def all_nodes() -> Select[Node]:
    """But those that were removed."""
    statement = select(Node).where(Node.state != NodeState.removed.value)
    return statement.order_by(Node.name, Node.id)


async def node_ids(session: AsyncSession) -> list[UUID]:
    statement = select(Node.id).where(Node.state != NodeState.removed.value)
    return list((await session.execute(statement)).scalars())


async def nodes_by_id(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Node]:
    rows = (await session.execute(select(Node).where(Node.id.in_(ids)))).scalars()
    return {node.id: node for node in rows}


async def upsert_node(session: AsyncSession, values: dict[str, Any]) -> None:
    row = insert(Node).values(**values).on_conflict_do_nothing()
    await session.execute(row)


async def lock_unheard(session: AsyncSession, heard_before: datetime, limit: int) -> list[Node]:
    """Online nodes not heard since, with their locks; those that others hold are left out."""
    statement = (
        select(Node)
        .where(Node.state == NodeState.online.value, Node.heard_at < heard_before)
        .order_by(Node.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    return list((await session.execute(statement)).scalars())


async def lost_candidates(session: AsyncSession, heard_before: datetime) -> list[UUID]:
    """Silent ones that have reported before."""
    statement = select(Node.id).where(
        Node.state == NodeState.silent.value, Node.boot_id != "", Node.heard_at < heard_before
    )
    return list((await session.execute(statement.order_by(Node.heard_at))).scalars())


async def count_heard(session: AsyncSession, since: datetime) -> tuple[int, int]:
    """Nodes that were heard since then, and those of them that are silent or lost now."""
    quiet = Node.state.in_([NodeState.silent.value, NodeState.lost.value])
    statement = select(func.count(), func.count().filter(quiet)).where(
        Node.heard_at >= since,
        Node.boot_id != "",
        Node.state != NodeState.removed.value,
        ~Node.revoked,
    )
    heard, silent = (await session.execute(statement)).one()
    return heard, silent


async def find_breaker(session: AsyncSession, *, lock: bool = False) -> Breaker:
    found = await session.get(Breaker, 1, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise LookupError("the breaker's row is gone")
    return found


async def devices(session: AsyncSession, node_id: UUID) -> list[Gpu]:
    """As the database has them now, gone ones included."""
    statement = select(Gpu).where(Gpu.node_id == node_id).order_by(Gpu.index, Gpu.uuid)
    return list(
        (await session.execute(statement.execution_options(populate_existing=True))).scalars()
    )


async def inventory(session: AsyncSession, node_id: UUID) -> set[tuple[str, int, str, int, bool]]:
    """uuid, index, model, memory_mib and health of those that are present."""
    statement = select(Gpu.uuid, Gpu.index, Gpu.model, Gpu.memory_mib, Gpu.healthy).where(
        Gpu.node_id == node_id, Gpu.present
    )
    return {(row[0], row[1], row[2], row[3], row[4]) for row in await session.execute(statement)}


async def write_devices(
    session: AsyncSession, node_id: UUID, found: Sequence[dict[str, Any]]
) -> None:
    """The inventory, whole: what it lacks is no longer present. Promises stay as they are."""
    uuids = [device["uuid"] for device in found]
    await session.execute(
        update(Gpu)
        .where(Gpu.node_id == node_id, Gpu.uuid.not_in(uuids), Gpu.present)
        .values(present=False, healthy=False)
        .execution_options(synchronize_session=False)
    )
    # Of a device that a report names twice the last word counts.
    devices = {device["uuid"]: device for device in found}
    if not devices:
        return
    rows = insert(Gpu).values(
        [
            {"node_id": node_id, "promised_milli": 0, "present": True, **device}
            for device in devices.values()
        ]
    )
    said = ("index", "model", "memory_mib", "healthy", "present")
    await session.execute(
        rows.on_conflict_do_update(
            index_elements=[Gpu.node_id, Gpu.uuid],
            set_={name: rows.excluded[name] for name in said},
        )
    )


_PROMISE = text(
    """
    WITH taken AS (
        UPDATE gpus SET promised_milli = promised_milli + :milli
        WHERE node_id = :node_id AND uuid = ANY(:uuids)
          AND present AND healthy AND promised_milli + :milli <= 1000
        RETURNING uuid)
    INSERT INTO promises (node_id, gpu_uuid, instance_id, milli, promised_at)
    SELECT :node_id, uuid, :instance_id, :milli, :now FROM taken
    RETURNING gpu_uuid
    """
).bindparams(bindparam("uuids", type_=ARRAY(Text())))

_RETURN = text(
    """
    WITH gone AS (DELETE FROM promises WHERE instance_id = :instance_id RETURNING *)
    UPDATE gpus SET promised_milli = promised_milli - gone.milli
    FROM gone WHERE gpus.node_id = gone.node_id AND gpus.uuid = gone.gpu_uuid
    RETURNING gpus.uuid
    """
)


async def promise(
    session: AsyncSession,
    node_id: UUID,
    uuids: Sequence[str],
    instance_id: UUID,
    *,
    milli: int,
    now: datetime,
) -> None:
    """Devices and rows change in one statement. Raises PlacementStale; roll back then."""
    values = {
        "node_id": node_id,
        "uuids": list(uuids),
        "instance_id": instance_id,
        "milli": milli,
        "now": now,
    }
    if len((await session.execute(_PROMISE, values)).all()) != len(uuids):
        raise PlacementStale(f"{node_id}: {', '.join(uuids)}")


async def return_promises(session: AsyncSession, instance_id: UUID) -> bool:
    """True when there were any."""
    return bool((await session.execute(_RETURN, {"instance_id": instance_id})).all())


async def count_promises(session: AsyncSession, node_id: UUID) -> int:
    statement = select(func.count()).select_from(Promise).where(Promise.node_id == node_id)
    return (await session.execute(statement)).scalar_one()


async def devices_of(
    session: AsyncSession, instance_ids: Collection[UUID]
) -> dict[UUID, list[DeviceOf]]:
    """What each of these instances holds."""
    statement = (
        select(Promise.instance_id, Gpu.uuid, Gpu.index)
        .join(Gpu, (Gpu.node_id == Promise.node_id) & (Gpu.uuid == Promise.gpu_uuid))
        .where(Promise.instance_id.in_(instance_ids))
        .order_by(Gpu.index)
    )
    found: dict[UUID, list[DeviceOf]] = {}
    for row in (await session.execute(statement)).all():
        found.setdefault(row.instance_id, []).append(DeviceOf(*row))
    return found


async def holders(session: AsyncSession, node_id: UUID) -> set[UUID]:
    """Instances that hold devices of this node."""
    statement = select(Promise.instance_id).where(Promise.node_id == node_id).distinct()
    return set((await session.execute(statement)).scalars())


async def free_counts(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, int]:
    """Healthy devices that nobody holds, by node."""
    statement = (
        select(Gpu.node_id, func.count())
        .where(Gpu.node_id.in_(ids), Gpu.present, Gpu.healthy, Gpu.promised_milli == 0)
        .group_by(Gpu.node_id)
    )
    return {row[0]: row[1] for row in (await session.execute(statement)).all()}


async def take_ports(
    session: AsyncSession, node: Node, instance_id: UUID, count: int
) -> list[int] | None:
    """Free ports of the node's range, after those given last. None when there are too few."""
    statement = text(
        """
        SELECT p FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS p
        WHERE NOT EXISTS (SELECT 1 FROM ports WHERE node_id = :node_id AND port = p)
        ORDER BY p < :next, p LIMIT :count
        """
    )
    values = {
        "first": node.port_first,
        "last": node.port_last,
        "next": node.next_port,
        "node_id": node.id,
        "count": count,
    }
    found = list((await session.execute(statement, values)).scalars())
    if len(found) < count:
        return None
    session.add_all(Port(node_id=node.id, port=p, instance_id=instance_id) for p in found)
    node.next_port = found[-1] + 1
    return found


async def free_ports(session: AsyncSession, instance_id: UUID) -> None:
    await session.execute(delete(Port).where(Port.instance_id == instance_id))
