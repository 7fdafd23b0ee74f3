"""What the market hears of a host: all of it, whenever any of it changes."""

from collections import Counter

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.node_states import shown_state
from services.scheduler.models import Gpu, Node
from services.scheduler.repository.nodes import devices
from shared.events.scheduler import NodeChanged
from shared.outbox import emit


async def tell_node(session: AsyncSession, node: Node) -> None:
    """Needs the node's lock. Silent when the market knows it already."""
    present = [gpu for gpu in await devices(session, node.id) if gpu.present]
    payload = _describe(node, present)
    told = payload.model_dump(mode="json")
    if told == node.told:
        return
    node.told = told
    node.version += 1
    await emit(session, payload, subject=node.id, sequence=node.version)


async def tell_state(session: AsyncSession, node: Node) -> None:
    """Needs the node's lock. As `tell_node`, where nothing but its state may have changed; silent
    of one that the market never heard of."""
    state = shown_state(node.state, draining=node.draining)
    if node.told is None or node.told["state"] == state:
        return
    node.told = {**node.told, "state": state}
    node.version += 1
    payload = NodeChanged.model_validate(node.told)
    await emit(session, payload, subject=node.id, sequence=node.version)


def _describe(node: Node, present: list[Gpu]) -> NodeChanged:
    models = Counter((gpu.model, gpu.memory_mib) for gpu in present if gpu.model)
    model, memory_mib = models.most_common(1)[0][0] if models else ("", 0)
    return NodeChanged.model_validate(
        {
            "node_id": node.id,
            "name": node.name,
            "region": node.region,
            "state": shown_state(node.state, draining=node.draining),
            "simulated": node.simulated,
            "gpu_model": model,
            "gpu_memory_mib": memory_mib,
            "gpu_total": len(present),
            "gpu_free": sum(gpu.healthy and gpu.promised_milli == 0 for gpu in present),
            "cpu_model": node.cpu_model,
            "cpu_cores": node.cpu_cores,
            "memory_bytes": node.memory_bytes,
            "disk_bytes": node.disk_bytes,
            "driver_version": node.driver_version,
            "max_cuda": node.max_cuda,
            "tflops": node.tflops,
        }
    )
