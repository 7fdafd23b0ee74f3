"""Tells each node's agent all that should be true there: on every change, and again and again."""

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.states import State, want_of
from services.scheduler.models import Instance
from services.scheduler.repository import instances as rows
from services.scheduler.repository import leases
from services.scheduler.repository import nodes as host
from services.scheduler.tools import Tools
from shared.bus import Undeliverable
from shared.database import Database, database_now
from shared.events import Envelope
from shared.events.agent import DesiredInstance, NodeDesired, SaveOrder

log = structlog.get_logger(__name__)

AT_ONCE = 8
RETELLINGS = 4
MOMENT_S = 1.0


@dataclass(frozen=True, slots=True)
class _Unfollowed:
    """due: when it is told again. left: so many times, before only the full resending is left."""

    due: float
    left: int


class Ordering:
    """In every copy, what its own requests and reports have changed.

    At once where an order changed; again after `retell_s`, a few times, where the node's report
    does not follow it. Then only the full resending is left."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._unfollowed: dict[UUID, _Unfollowed] = {}
        self._told_at: dict[UUID, float] = {}

    async def step(self) -> None:
        now, settings = time.monotonic(), self._tools.settings
        changed = self._tools.signals.take_changed()
        for node_id in changed:
            self._unfollowed[node_id] = _Unfollowed(now + settings.retell_s, RETELLINGS)
        for node_id, follows in self._tools.signals.take_followed().items():
            if follows and node_id not in changed:
                self._unfollowed.pop(node_id, None)
            elif not follows:
                # At once, unless it was told a moment ago.
                due = max(now, self._told_at.get(node_id, now - MOMENT_S) + MOMENT_S)
                wait = self._unfollowed.get(node_id)
                left = wait.left if wait is not None else RETELLINGS
                self._unfollowed[node_id] = _Unfollowed(due, left)
        told = changed | self._retell(now)
        self._told_at |= dict.fromkeys(told, now)
        await send_all(self._tools, told)

    def _retell(self, now: float) -> set[UUID]:
        due = {node_id for node_id, wait in self._unfollowed.items() if wait.due <= now}
        for node_id in due:
            left = self._unfollowed.pop(node_id).left - 1
            if left > 0:
                next_at = now + self._tools.settings.retell_s
                self._unfollowed[node_id] = _Unfollowed(next_at, left)
        return due


class Resending:
    """In one copy: everything to every node every `resend_s`, each at a moment of its own."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._due: dict[UUID, float] = {}

    async def step(self, database: Database) -> None:
        now, resend_s = time.monotonic(), self._tools.settings.resend_s
        async with database.transaction() as session:
            known = await host.node_ids(session)
        # A new one at once, then at a moment of its own.
        self._due = {node_id: self._due.get(node_id, now) for node_id in known}
        due = {node_id for node_id, at in self._due.items() if at <= now}
        for node_id in due:
            self._due[node_id] = now + resend_s * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load
        await send_all(replace(self._tools, database=database), due)


async def send_all(tools: Tools, node_ids: Iterable[UUID]) -> None:
    """A few at a time; one that does not go out holds up no other."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def send(node_id: UUID) -> None:
        try:
            async with slots:
                await send_orders(tools, node_id)
        except Undeliverable as away:
            log.debug("agent_away", node_id=str(node_id), reason=str(away))
        except Exception:
            log.exception("orders_not_sent", node_id=str(node_id))

    await asyncio.gather(*(send(node_id) for node_id in node_ids))


async def send_orders(tools: Tools, node_id: UUID) -> None:
    """Raises Undeliverable. Copies may do so at once: an agent refuses what is older."""
    async with tools.database.transaction() as session:
        # Before reading, and by the one clock that all copies share: an order may seem older than
        # it is, never newer.
        issued_at = await database_now(session)
        orders = await _orders(session, tools, node_id, issued_at)
    payload = NodeDesired(node_id=node_id, issued_at=issued_at, instances=orders)
    await tools.bus.publish(Envelope.wrap(payload, subject=node_id))


async def _orders(
    session: AsyncSession, tools: Tools, node_id: UUID, issued_at: datetime
) -> list[DesiredInstance]:
    found = await rows.on_node(session, node_id)
    if not found:
        return []
    held = await host.devices_of(session, [i.id for i in found])
    accounts = {i.account_id for i in found}
    keys = await rows.keys_of(session, accounts)
    reaches = await leases.of_accounts(session, accounts)
    latest = issued_at + timedelta(seconds=tools.settings.lease_max_s)
    orders = []
    for instance in found:
        uuids = [device.uuid for device in held.get(instance.id, [])]
        paid_until = min(latest, reaches.get(instance.account_id, latest))
        order = _order(instance, tools, uuids, keys.get(instance.account_id, []), paid_until)
        if order is not None:
            orders.append(order)
    return orders


def _order(
    instance: Instance, tools: Tools, uuids: list[str], keys: list[str], paid_until: datetime
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
            "paid_until": paid_until,
            "save": save,
            "traceparent": instance.traceparent,
        }
    )
