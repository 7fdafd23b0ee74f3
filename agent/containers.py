"""Drives one instance to what is ordered: observes, plans, acts, until nothing is left to do.

One pass at a time per instance; instances do not wait for one another. On the way from order to
start nothing is asked that is not needed: a new instance costs create and start.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

import structlog

from agent import folders, probe, saving
from agent.engine import (
    NEVER_STARTED,
    ContainerConfig,
    ContainerFact,
    Engine,
    EngineRefused,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
)
from agent.journal import Entry, Failure, Journal, Run
from agent.launch import (
    Host,
    container_config,
    container_name,
    disk_reference,
    disk_repository,
    spec_hash,
)
from agent.metrics import counted
from agent.observe import Doing, observe
from agent.reconcile import (
    Action,
    Adopt,
    AwaitReady,
    Commit,
    Create,
    Erase,
    Remove,
    Restore,
    Save,
    Start,
    Stop,
    Untag,
    current_of,
    entry_from_labels,
    fresh_entry,
    is_outdated,
    plan,
    settle,
)
from shared.clock import utc_now
from shared.events.agent import DesiredInstance, ObservedInstance, ObservedSave, ObservedState
from shared.telemetry import continued

log = structlog.get_logger(__name__)

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What all instances of a node work with. changed: tells the node to report, at once where
    the instance has arrived somewhere, soon where it is on its way."""

    host: Host
    engine: Engine
    journal: Journal
    boot_id: str
    stop_grace_s: int
    ready_timeout_s: float
    changed: Callable[[bool], None]


class Instance:
    def __init__(
        self,
        instance_id: UUID,
        tools: Tools,
        entry: Entry | None = None,
        containers: Sequence[ContainerFact] = (),
    ) -> None:
        self.id = instance_id
        self.order: DesiredInstance | None = None
        self.entry = entry
        self.containers = list(containers)
        self.doing: Doing | None = None
        self.passes = 0
        self.busy = False
        self._tools = tools
        self._wake = asyncio.Event()
        self._must_list = False
        self._created = ""
        self._written: DesiredInstance | None = None
        self._unwritten = False
        if entry is None and containers:
            self.entry = entry_from_labels(containers)
        self._wake.set()

    def accept(self, order: DesiredInstance) -> None:
        if is_outdated(order, self.entry):
            log.warning("order_outdated", instance_id=str(self.id), generation=order.generation)
            return
        if order != self.order:
            self.order = order
            self._wake.set()

    def disown(self) -> None:
        """The list of orders lacks it: leave everything as it is."""
        self.order = None

    def saw(self, containers: Sequence[ContainerFact]) -> None:
        """From a full listing taken while this instance was at rest."""
        if list(containers) != self.containers:
            self._must_list = True
            self._wake.set()

    def look_again(self) -> None:
        self._must_list = True
        self._wake.set()

    def report(self) -> ObservedInstance | None:
        """None when there is nothing to say: neither ordered nor there."""
        if self.entry is None or (self.order is None and not self.containers):
            return None
        return observe(self.order, self.entry, current_of(self.containers), self.doing)

    @property
    def _known(self) -> Entry:
        if self.entry is None:
            raise LookupError(f"instance {self.id} has no journal yet")
        return self.entry

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self.busy = True
            try:
                await self._converge()
            except EngineUnavailable as error:
                self._try_later("engine_unavailable", error)
            except EngineRefused as error:
                self._try_later("engine_refused", error)
            except Exception as error:
                log.exception("instance_pass_failed", instance_id=str(self.id))
                self._try_later("instance_pass_failed", error)
            finally:
                self.busy = False
                self.passes += 1

    def _try_later(self, event: str, error: Exception) -> None:
        log.warning(event, instance_id=str(self.id), error=str(error))
        self._wake.clear()
        asyncio.get_running_loop().call_later(RETRY_S, self.look_again)

    async def _converge(self) -> None:
        while True:
            self._wake.clear()
            order = self.order
            await self._observe(order)
            if order is None or self.entry is None:
                return self._show(None)
            originals = await asyncio.to_thread(self._tools.journal.originals, self.id)
            actions = plan(
                order,
                self._spec(order),
                self.containers,
                self.entry,
                has_originals=originals is not None,
            )
            if not actions:
                await self._write()
                return self._show(None)
            if not isinstance(actions[0], Create):
                await self._write()
            await self._act(order, actions)

    async def _observe(self, order: DesiredInstance | None) -> None:
        """Bring entry and containers up to date with order and engine."""
        tools = self._tools
        if self._must_list:
            self.containers = await tools.engine.containers(tools.host.node_id, self.id)
            self._must_list = False
        before = self.entry
        if order is not None:
            entry = before or fresh_entry(tools.host.node_id, order, self.containers)
            keeps = entry.failure is not None and entry.failure.token == order.start_token
            self.entry = entry.model_copy(
                update={
                    "generation": max(order.generation, entry.generation),
                    "token": order.start_token,
                    "failure": entry.failure if keeps else None,
                    "save": entry.save if order.save is not None else None,
                }
            )
        if self.entry is not None:
            self.entry = settle(
                self.entry, current_of(self.containers), boot_id=tools.boot_id, now=utc_now()
            )
        if self.entry != before:
            self._unwritten = True
        if order is not None and order != self._written and any(c.running for c in self.containers):
            await asyncio.to_thread(folders.write_run_folder, order, tools.host)
            self._written = order

    async def _act(self, order: DesiredInstance, actions: Sequence[Action]) -> None:
        try:
            for action in actions:
                self._must_list = True
                step = type(action).__name__
                with counted(step), continued("agent", step, order.traceparent):
                    goes_on = await self._perform(action, order)
                if not goes_on:
                    break
        except EngineRefused as error:
            if order.want != "running" or isinstance(action, Stop | Remove | Untag | Restore):
                raise
            await self._fail(order, str(error))

    async def _perform(self, action: Action, order: DesiredInstance) -> bool:
        """False: what follows in the plan no longer holds; plan again."""
        tools = self._tools
        match action:
            case Adopt(_, started_raw):
                await self._adopt(order, started_raw)
            case Create(disk):
                return await self._create(order, disk)
            case Start(container, before):
                await self._start(order, container, before)
            case AwaitReady():
                await self._await_ready(order)
                return False
            case Stop(container):
                await self._stop(container)
            case Commit(container, disk):
                self._show(Doing(ObservedState.creating, message="keeping the system disk"))
                await tools.engine.commit(container, disk_reference(order, disk))
            case Remove(container):
                await tools.engine.remove(container)
            case Untag(disk):
                if disk > 0:
                    await tools.engine.untag(disk_reference(order, disk))
            case Restore():
                await saving.restore(tools.engine, tools.journal, self.id)
            case Save():
                await self._save(action)
            case Erase(containers):
                await self._erase(containers)
            case _:
                assert_never(action)
        return True

    async def _adopt(self, order: DesiredInstance, started_raw: str) -> None:
        run = Run(
            token=order.start_token,
            before=NEVER_STARTED,
            boot_id=self._tools.boot_id,
            began=started_raw,
        )
        log.info("container_adopted", instance_id=str(self.id))
        await self._update(run=run)

    async def _create(self, order: DesiredInstance, disk: int) -> bool:
        tools = self._tools
        spec = self._spec(order)
        self._show(Doing(ObservedState.creating))
        await self._prepare_folders(order)
        name = container_name(order, spec)
        config = container_config(order, tools.host, spec=spec, disk=disk)
        is_first = not self.containers
        if is_first:
            # Only the start needs the journal: write while the engine creates.
            self.entry = self._known.model_copy(update={"run": self._run(order, NEVER_STARTED)})
            _, created = await asyncio.gather(self._write(force=True), self._new(name, config))
        else:
            created = await self._new(name, config)
        if created is None:
            return False
        self._created = created
        if self._known.disk != disk:
            await self._update(disk=disk)
        return True

    async def _prepare_folders(self, order: DesiredInstance) -> None:
        await asyncio.to_thread(folders.prepare_folders, order, self._tools.host)
        self._written = order

    async def _new(self, name: str, config: ContainerConfig) -> str | None:
        """The id; None when a container of that name is ours already."""
        engine, image = self._tools.engine, str(config["Image"])
        try:
            try:
                return await engine.create(name, config)
            except ImageMissing:
                self._show(Doing(ObservedState.pulling))
                await self._pull(image)
                self._show(Doing(ObservedState.creating))
                return await engine.create(name, config)
        except NameTaken:
            found = await engine.inspect(name)
            if found is None or found.instance_id != self.id:
                raise
            return None

    async def _pull(self, image: str) -> None:
        def progress(share: float | None, words: str) -> None:
            self._show(Doing(ObservedState.pulling, share, words))

        try:
            await self._tools.engine.pull(image, progress)
        except EngineRefused as error:
            raise EngineRefused(f"image {image} cannot be fetched: {error}") from error

    async def _start(self, order: DesiredInstance, container: str | None, before: str) -> None:
        self._show(Doing(ObservedState.starting))
        if container is not None:
            await self._prepare_folders(order)
        run = self._known.run
        if run is None or run.token != order.start_token or run.began:
            await self._update(run=self._run(order, before or NEVER_STARTED))
        await self._tools.engine.start(container or self._created)
        log.info("container_started", instance_id=str(self.id), token=str(order.start_token))

    async def _await_ready(self, order: DesiredInstance) -> None:
        """Ends when SSH answers, when time is up, or when something happened meanwhile."""
        tools = self._tools
        self._show(Doing(ObservedState.starting))
        address = tools.host.publish_address
        host = "127.0.0.1" if address == "0.0.0.0" else address  # noqa: S104  compared, not bound
        began = time.monotonic()
        while not self._wake.is_set():
            waited = time.monotonic() - began
            if await probe.ssh_answers(host, order.ssh_port):
                if (run := self._known.run) is not None:
                    run = run.model_copy(update={"started_at": utc_now()})
                    await self._update(run=run)
                self._show(Doing(ObservedState.running))
                log.info("instance_ready", instance_id=str(self.id), waited_s=round(waited, 3))
                return
            if waited > tools.ready_timeout_s:
                return await self._fail(order, f"SSH did not answer for {waited:.0f} s")
            await asyncio.sleep(probe.pause_s(waited))

    async def _stop(self, container: str) -> None:
        self._show(Doing(ObservedState.stopping))
        run = self._known.run
        if run is not None and run.ordered_at is None and run.finished_at is None:
            await self._update(run=run.model_copy(update={"ordered_at": utc_now()}))
        await self._tools.engine.stop(container, self._tools.stop_grace_s)

    async def _save(self, action: Save) -> None:
        order = action.order
        state = ObservedSave(image_id=order.image_id, state="saving")
        await self._update(save=state)
        self._show(None)
        if action.container is None:
            return await self._update(
                save=state.model_copy(update={"state": "failed", "message": "no container"})
            )
        try:
            image = await saving.save(
                self._tools.engine,
                self._tools.journal,
                self.id,
                action.container,
                order.reference,
            )
        except EngineRefused as error:
            result: dict[str, object] = {"state": "failed", "message": str(error)}
            log.warning("save_failed", instance_id=str(self.id), error=str(error))
        else:
            result = {"state": "saved", "digest": image.digest, "size_bytes": image.size_bytes}
            log.info("instance_saved", instance_id=str(self.id), reference=order.reference)
        await self._update(save=ObservedSave.model_validate({**state.model_dump(), **result}))

    async def _erase(self, containers: Sequence[str]) -> None:
        tools = self._tools
        self._show(Doing(ObservedState.stopping))
        run = self._known.run
        if run is not None and run.ordered_at is None and run.finished_at is None:
            await self._update(run=run.model_copy(update={"ordered_at": utc_now()}))
        for container in containers:
            await tools.engine.remove(container)
        for tag in await tools.engine.tags(disk_repository(self.id)):
            await tools.engine.untag(tag)
        await asyncio.to_thread(folders.remove_folders, self.id, tools.host)
        await asyncio.to_thread(tools.journal.forget_originals, self.id)
        self.containers = []
        self.entry = settle(self._known, None, boot_id=tools.boot_id, now=utc_now())
        await self._update(erased_at=utc_now())
        log.info("instance_erased", instance_id=str(self.id))

    async def _fail(self, order: DesiredInstance, message: str) -> None:
        log.warning("instance_failed", instance_id=str(self.id), message=message)
        await self._update(failure=Failure(token=order.start_token, message=message[:500]))

    async def _update(self, **changes: object) -> None:
        self.entry = self._known.model_copy(update=changes)
        await self._write(force=True)

    async def _write(self, *, force: bool = False) -> None:
        if (force or self._unwritten) and self.entry is not None:
            self._unwritten = False
            await asyncio.to_thread(self._tools.journal.write, self.entry)

    def _show(self, doing: Doing | None) -> None:
        self.doing = doing
        self._tools.changed(doing is None or doing.state is ObservedState.running)

    def _run(self, order: DesiredInstance, before: str) -> Run:
        return Run(token=order.start_token, before=before, boot_id=self._tools.boot_id)

    def _spec(self, order: DesiredInstance) -> str:
        return spec_hash(order, simulated=self._tools.host.simulated)
