"""One host as the scheduler sees it: takes its orders, reports all of it, keeps its instances."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import structlog

from agent.case import Tools
from agent.contact import Contact
from agent.containers import Instance
from agent.engine import ContainerFact, Engine, EngineRefused, EngineUnavailable
from agent.inventory import Machine
from agent.journal import Journal
from agent.launch import Host
from agent.metrics import INSTANCES, ORDERS, REPORTS
from agent.settings import AgentSettings
from shared.bus import Bus, Keeping, Subscription, Undeliverable
from shared.clock import utc_now
from shared.events.agent import Inventory, NodeDesired, NodeReported
from shared.events.envelope import Envelope

log = structlog.get_logger(__name__)

PROGRESS_S = 0.3
# Copies of an order that a newer one overtook come within this.
LATE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Identity:
    node_id: UUID
    name: str
    region: str
    simulated: bool


class Node:
    """Knows every instance that is ordered, journaled or there as a container."""

    def __init__(
        self,
        identity: Identity,
        host: Host,
        machine: Machine,
        read_inventory: Callable[[], Inventory],
        *,
        engine: Engine,
        bus: Bus,
        settings: AgentSettings,
        registry: str = "",
    ) -> None:
        """registry: HOST:PORT that saved images are pushed to."""
        self.identity = identity
        self.instances: dict[UUID, Instance] = {}
        self._read_inventory = read_inventory
        self._inventory: Inventory
        self._machine = machine
        self._engine = engine
        self._bus = bus
        self._settings = settings
        self._journal = Journal(settings.state_dir)
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._list_now = asyncio.Event()
        self._issued_at = datetime.min.replace(tzinfo=UTC)
        self._sequence = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._tools = Tools(
            host=host,
            engine=engine,
            journal=self._journal,
            boot_id=machine.boot_id,
            boot_clock=partial(time.clock_gettime, time.CLOCK_BOOTTIME),
            registry=registry,
            stop_grace_s=settings.stop_grace_s,
            ready_timeout_s=settings.ready_timeout_s,
            changed=self._note_change,
        )

    @property
    def queue(self) -> str:
        return f"agent.{self.identity.node_id}.desired"

    @property
    def _subscription(self) -> Subscription:
        return Subscription(
            self.queue,
            (NodeDesired.type,),
            self._take,
            subject=str(self.identity.node_id),
            keeping=Keeping.states,
        )

    async def run(self) -> None:
        """Until cancelled. Containers are left as they are."""
        self._inventory = await asyncio.to_thread(self._read_inventory)
        entries = await asyncio.to_thread(self._journal.load, self.identity.node_id)
        there = await self._list_until_answered()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for instance_id in {*entries, *there}:
                self._add(
                    Instance(
                        instance_id,
                        self._tools,
                        entries.get(instance_id),
                        there.get(instance_id, ()),
                    )
                )
            tasks.create_task(self._look_around())
            # Only now: an order is judged by what is there.
            await self._bus.subscribe(self._subscription)
            try:
                await self._publish_changes()
            finally:
                await self._bus.unsubscribe(self.queue)

    def look_around(self) -> None:
        """Events may have been missed."""
        self._list_now.set()

    def happened(self, instance_id: UUID, action: str) -> None:
        instance = self.instances.get(instance_id)
        if instance is None:
            return self.look_around()
        if action == "start" and instance.busy:
            return
        instance.look_again()

    async def _take(self, envelope: Envelope) -> None:
        desired = NodeDesired.model_validate(envelope.data)
        # Much older: the scheduler's clock was set back. Whatever it is, generations fence.
        if timedelta(0) < self._issued_at - desired.issued_at < LATE:
            return
        self._issued_at = desired.issued_at
        ORDERS.labels(self.identity.name).inc()
        ordered = {order.instance_id: order for order in desired.instances}
        for instance_id, order in ordered.items():
            if instance_id not in self.instances:
                self._add(Instance(instance_id, self._tools))
            self.instances[instance_id].accept(order, desired.issued_at)
        for instance_id, instance in self.instances.items():
            if instance_id not in ordered:
                instance.disown()

    def _note_change(self, arrived: bool) -> None:
        self._changed.set()
        if arrived:
            self._arrived.set()

    def _add(self, instance: Instance) -> None:
        if self._tasks is None:
            raise RuntimeError("the node does not run")
        self.instances[instance.id] = instance
        self._tasks.create_task(instance.run())

    async def _publish_changes(self) -> None:
        contact = Contact(self.identity.name)
        while True:
            self._changed.clear()
            self._arrived.clear()
            try:
                await self._bus.publish(
                    Envelope.wrap(
                        self._report(), subject=self.identity.node_id, sequence=self._sequence
                    )
                )
            except Undeliverable as error:
                REPORTS.labels(self.identity.name, "lost").inc()
                contact.failed(error)
            else:
                REPORTS.labels(self.identity.name, "sent").inc()
                contact.reached()
            # Not wait_for: in Python 3.11 it may swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.heartbeat_s):
                    await self._changed.wait()
            # Steps on the way are told together: telling each would slow down what they tell of.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_S):
                    await self._arrived.wait()

    def _report(self) -> NodeReported:
        # Rises over restarts too, without a file of its own, and whatever is done to the clock: it
        # counts within one boot.
        since_boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._sequence = max(self._sequence + 1, since_boot)
        INSTANCES.labels(self.identity.name).set(len(self.instances))
        reports = (instance.report() for instance in self.instances.values())
        return NodeReported(
            node_id=self.identity.node_id,
            name=self.identity.name,
            region=self.identity.region,
            simulated=self.identity.simulated,
            boot_id=self._machine.boot_id,
            sequence=self._sequence,
            reported_at=utc_now(),
            labels=self._settings.labels,
            inventory=self._inventory,
            instances=[report for report in reports if report is not None],
        )

    async def _look_around(self) -> None:
        """What events tell at once, a full list tells for sure."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.heartbeat_s):
                    await self._list_now.wait()
            self._list_now.clear()
            for instance in self.instances.values():
                instance.watch_lease()
            try:
                await self._compare()
                self._inventory = await asyncio.to_thread(self._read_inventory)
            except (EngineUnavailable, EngineRefused, OSError) as error:
                log.warning("listing_failed", node=self.identity.name, error=str(error))
            self._forget_old_tombstones()

    async def _compare(self) -> None:
        at_rest = {i.id: i.passes for i in self.instances.values() if not i.busy}
        there = await self._list()
        for instance_id in there.keys() - self.instances.keys():
            self._add(Instance(instance_id, self._tools, None, there[instance_id]))
        for instance_id, passes in at_rest.items():
            instance = self.instances.get(instance_id)
            if instance is not None and not instance.busy and instance.passes == passes:
                instance.saw(there.get(instance_id, []))

    def _forget_old_tombstones(self) -> None:
        now = utc_now()
        for instance in self.instances.values():
            entry = instance.entry
            if instance.order is not None or entry is None or entry.erased_at is None:
                continue
            if (now - entry.erased_at).total_seconds() > self._settings.tombstone_s:
                self._journal.forget(instance.id)

    async def _list(self) -> dict[UUID, list[ContainerFact]]:
        found: dict[UUID, list[ContainerFact]] = {}
        for fact in await self._engine.containers(self.identity.node_id):
            found.setdefault(fact.instance_id, []).append(fact)
        return found

    async def _list_until_answered(self) -> dict[UUID, list[ContainerFact]]:
        while True:
            try:
                return await self._list()
            except (EngineUnavailable, EngineRefused) as error:
                log.warning("listing_failed", node=self.identity.name, error=str(error))
                await asyncio.sleep(1)
