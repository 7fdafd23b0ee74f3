"""Tells each node's agent all that should be true there: on every change, and again and again."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.states import State, want_of
from services.scheduler.models import Instance
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.tools import Tools
from shared.bus import Undeliverable
from shared.database import database_now
from shared.events import Envelope
from shared.events.agent import DesiredInstance, NodeDesired, SaveOrder

log = structlog.get_logger(__name__)


async def send_changed(tools: Tools) -> None:
    """What this copy's own requests and reports have changed; woken by their commit."""
    await _send_all(tools, tools.signals.take_changed())


async def send_again(tools: Tools) -> None:
    """To every host, whether or not anything changed: orders get lost."""
    async with tools.database.transaction() as session:
        node_ids = await host.node_ids(session)
    await _send_all(tools, node_ids)


async def _send_all(tools: Tools, node_ids: Iterable[UUID]) -> None:
    await asyncio.gather(*(_send(tools, node_id) for node_id in node_ids))


async def _send(tools: Tools, node_id: UUID) -> None:
    try:
        await send_orders(tools, node_id)
    except Undeliverable as away:
        log.debug("agent_away", node_id=str(node_id), reason=str(away))
    except Exception:
        log.exception("orders_not_sent", node_id=str(node_id))


async def send_orders(tools: Tools, node_id: UUID) -> None:
    """Raises Undeliverable. Copies may do so at once: an agent refuses what is older."""
    async with tools.database.transaction() as session:
        # Before reading, and by the one clock that all copies share: an order may seem older than
        # it is, never newer.
        issued_at = await database_now(session)
        orders = await _orders(session, tools, node_id)
    payload = NodeDesired(node_id=node_id, issued_at=issued_at, instances=orders)
    await tools.bus.publish(Envelope.wrap(payload, subject=node_id))


async def _orders(session: AsyncSession, tools: Tools, node_id: UUID) -> list[DesiredInstance]:
    found = await rows.on_node(session, node_id)
    if not found:
        return []
    held = await host.devices_of(session, [i.id for i in found])
    keys = await rows.keys_of(session, {i.account_id for i in found})
    orders = []
    for instance in found:
        uuids = [device.uuid for device in held.get(instance.id, [])]
        order = _order(instance, tools, uuids, keys.get(instance.account_id, []))
        if order is not None:
            orders.append(order)
    return orders


def _order(
    instance: Instance, tools: Tools, uuids: list[str], keys: list[str]
) -> DesiredInstance | None:
    resume = State(instance.resume) if instance.resume is not None else None
    want = want_of(State(instance.state), resume)
    if want is None:
        return None
    settings = tools.settings
    has_gpus = instance.mode == "gpu"
    save = None
    if instance.save_image_id is not None and instance.save_reference is not None:
        save = SaveOrder(image_id=instance.save_image_id, reference=instance.save_reference)
    return DesiredInstance.model_validate(
        {
            "instance_id": instance.id,
            "name": instance.name,
            "generation": instance.generation,
            "start_token": instance.start_token,
            "want": want,
            "mode": instance.mode,
            "image": instance.image_address,
            "gpus": uuids if has_gpus else [],
            "cpu_cores": instance.cpu_cores if has_gpus else settings.cpu_mode_cores,
            "memory_bytes": instance.memory_bytes if has_gpus else settings.cpu_mode_memory_bytes,
            "ssh_port": instance.ssh_port,
            "app_port": instance.app_port if instance.image_apps else None,
            "env": instance.env,
            "authorized_keys": keys,
            "password_hash": instance.password_hash,
            "app_token": instance.app_token,
            "ssh_host_key": instance.ssh_host_key,
            "volume_id": instance.account_id,
            "save": save,
            "traceparent": instance.traceparent,
        }
    )
