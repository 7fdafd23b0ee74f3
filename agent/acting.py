"""Carries out what was planned for one instance; each act is one that may be cut off anywhere."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Literal, assert_never

import structlog

from agent import folders, probe, saving
from agent.case import Case
from agent.engine import (
    NEVER_STARTED,
    ContainerConfig,
    EngineRefused,
    ImageMissing,
    NameTaken,
    RegistryAway,
)
from agent.journal import Failure, Kept, Run
from agent.launch import (
    container_config,
    container_name,
    disk_reference,
    disk_repository,
    spec_hash,
)
from agent.metrics import counted
from agent.observe import Doing
from agent.pushing import Pushing
from agent.reconcile import (
    Action,
    Adopt,
    AwaitReady,
    Commit,
    Create,
    Erase,
    Expire,
    Push,
    Remove,
    Restore,
    Save,
    Start,
    Stop,
    Untag,
    settle,
)
from shared.clock import utc_now
from shared.events.agent import DesiredInstance, ObservedSave, ObservedState
from shared.telemetry import continued

log = structlog.get_logger(__name__)

REGISTRY_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class Acting:
    def __init__(self, case: Case, pushing: Pushing) -> None:
        self._case = case
        self._pushing = pushing

    async def act(self, order: DesiredInstance, actions: Sequence[Action]) -> None:
        case = self._case
        try:
            for action in actions:
                case.must_list = True
                step = type(action).__name__
                with counted(step), continued("agent", step, order.traceparent):
                    goes_on = await self._perform(action, order)
                if not goes_on:
                    break
        except EngineRefused as error:
            cleaning = isinstance(action, Stop | Expire | Remove | Untag | Restore)
            if order.want != "running" or cleaning:
                raise
            await self._fail(order, str(error))

    async def end_lease(self, actions: Sequence[Action]) -> None:
        """Of an instance whose order is not known since this agent began."""
        for action in actions:
            self._case.must_list = True
            match action:
                case Adopt(_, started_raw):
                    await self._adopt(started_raw)
                case Expire(container):
                    await self._expire(container)
                case _:
                    raise ValueError(f"{action} needs an order")

    async def _perform(self, action: Action, order: DesiredInstance) -> bool:
        """False: what follows in the plan no longer holds; plan again."""
        case = self._case
        engine = case.tools.engine
        match action:
            case Adopt(_, started_raw):
                await self._adopt(started_raw)
            case Create(disk):
                return await self._create(order, disk)
            case Start(container, before):
                await self._start(order, container, before)
            case AwaitReady():
                await self._await_ready(order)
                return False
            case Stop(container):
                await self._stop(container)
            case Expire(container):
                await self._expire(container)
            case Commit(container, disk):
                case.show(Doing(ObservedState.creating, message="keeping the system disk"))
                await engine.commit(container, disk_reference(order, disk))
            case Remove(container):
                await engine.remove(container)
            case Untag(disk):
                if disk > 0:
                    await engine.untag(disk_reference(order, disk))
            case Restore():
                await saving.restore(engine, case.tools.journal, case.id)
            case Save():
                await self._save(action)
            case Push(save):
                self._pushing.begin(save)
            case Erase(containers):
                await self._erase(containers)
            case _:
                assert_never(action)
        return True

    async def _adopt(self, started_raw: str) -> None:
        case = self._case
        run = Run(
            token=case.known.token,
            before=NEVER_STARTED,
            boot_id=case.tools.boot_id,
            began=started_raw,
        )
        log.info("container_adopted", instance_id=str(case.id))
        await case.update(run=run)

    async def _create(self, order: DesiredInstance, disk: int) -> bool:
        case, host = self._case, self._case.tools.host
        spec = spec_hash(order, simulated=host.simulated)
        case.show(Doing(ObservedState.creating))
        await self._prepare_folders(order)
        name = container_name(order, spec)
        config = container_config(order, host, spec=spec, disk=disk)
        is_first = not case.containers
        if is_first:
            # Only the start needs the journal: write while the engine creates.
            case.entry = case.known.model_copy(update={"run": self._run(order, NEVER_STARTED)})
            case.unwritten = True
            _, created = await asyncio.gather(case.write(), self._new(order, name, config))
        else:
            created = await self._new(order, name, config)
        if created is None:
            return False
        case.created = created
        if case.known.disk != disk:
            await case.update(disk=disk)
        return True

    async def _prepare_folders(self, order: DesiredInstance) -> None:
        await asyncio.to_thread(folders.prepare_folders, order, self._case.tools.host)
        self._case.prepared = order

    async def _new(self, order: DesiredInstance, name: str, config: ContainerConfig) -> str | None:
        """The id; None when a container of that name is ours already, or when something else is
        wanted meanwhile."""
        case, engine, image = self._case, self._case.tools.engine, str(config["Image"])
        try:
            try:
                return await engine.create(name, config)
            except ImageMissing:
                case.show(Doing(ObservedState.pulling))
                if not await self._pull(order, image):
                    return None
                case.show(Doing(ObservedState.creating))
                return await engine.create(name, config)
        except NameTaken:
            found = await engine.inspect(name)
            if found is None or found.instance_id != case.id:
                raise
            return None

    async def _pull(self, order: DesiredInstance, image: str) -> bool:
        """False: given up, since something else is wanted. A registry that is away is waited
        for."""
        case = self._case

        def progress(share: float | None, words: str) -> None:
            case.show(Doing(ObservedState.pulling, share, words))

        tries = 0
        while True:
            try:
                return await self._while_wanted(order, case.tools.engine.pull(image, progress))
            except RegistryAway as away:
                log.warning("pull_waits", instance_id=str(case.id), error=str(away))
                progress(None, str(away)[:300])
            except EngineRefused as error:
                raise EngineRefused(f"image {image} cannot be fetched: {error}") from error
            delay_s = REGISTRY_RETRY_S[min(tries, len(REGISTRY_RETRY_S) - 1)]
            tries += 1
            if not await self._while_wanted(order, asyncio.sleep(delay_s)):
                return False

    async def _while_wanted(
        self, order: DesiredInstance, work: Coroutine[object, object, None]
    ) -> bool:
        """False: given up. Raises what the work raises."""
        case, task = self._case, asyncio.ensure_future(work)
        try:
            while True:
                waking = asyncio.create_task(case.wake.wait())
                await asyncio.wait((task, waking), return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                if task.done():
                    await task
                    return True
                if case.order != order or case.lease_is_over:
                    return False
                case.wake.clear()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _start(self, order: DesiredInstance, container: str | None, before: str) -> None:
        case = self._case
        case.show(Doing(ObservedState.starting))
        if container is not None:
            await self._prepare_folders(order)
        run = case.known.run
        if run is None or run.token != order.start_token or run.began:
            await case.update(run=self._run(order, before or NEVER_STARTED))
        await case.tools.engine.start(container or case.created)
        log.info("container_started", instance_id=str(case.id), token=str(order.start_token))

    async def _await_ready(self, order: DesiredInstance) -> None:
        """Ends when SSH answers, when time is up, or when something happened meanwhile."""
        case, tools = self._case, self._case.tools
        case.show(Doing(ObservedState.starting))
        address = tools.host.publish_address
        host = "127.0.0.1" if address == "0.0.0.0" else address  # noqa: S104  compared, not bound
        began = time.monotonic()
        while not case.wake.is_set():
            waited = time.monotonic() - began
            if await probe.ssh_answers(host, order.ssh_port):
                if (run := case.known.run) is not None:
                    await case.update(run=run.model_copy(update={"started_at": utc_now()}))
                case.show(Doing(ObservedState.running))
                log.info("instance_ready", instance_id=str(case.id), waited_s=round(waited, 3))
                return
            if waited > tools.ready_timeout_s:
                return await self._fail(order, f"SSH did not answer for {waited:.0f} s")
            await asyncio.sleep(probe.pause_s(waited))

    async def _stop(self, container: str) -> None:
        case = self._case
        case.show(Doing(ObservedState.stopping))
        await self._note_stop("ordered_at")
        await case.tools.engine.stop(container, case.tools.stop_grace_s)

    async def _expire(self, container: str) -> None:
        case = self._case
        log.warning(
            "lease_over", instance_id=str(case.id), cure="the scheduler gave no newer order in time"
        )
        case.show(Doing(ObservedState.stopping))
        await self._note_stop("expired_at")
        await case.tools.engine.stop(container, case.tools.stop_grace_s)

    async def _note_stop(self, cause: Literal["ordered_at", "expired_at"]) -> None:
        """Before the act: its effect must be known for ours after a crash too."""
        run = self._case.known.run
        if run is not None and getattr(run, cause) is None and run.finished_at is None:
            await self._case.update(run=run.model_copy(update={cause: utc_now()}))

    async def _save(self, action: Save) -> None:
        case, order = self._case, action.order
        state = ObservedSave(image_id=order.image_id, state="saving")
        await case.update(save=state, kept=None)
        case.show(None)
        if action.container is None:
            failed = {"state": "failed", "message": "no container"}
            return await case.update(save=state.model_copy(update=failed))
        tools = case.tools
        try:
            image = await saving.save(
                tools.engine, tools.journal, case.id, action.container, order.reference
            )
        except EngineRefused as error:
            log.warning("save_failed", instance_id=str(case.id), error=str(error))
            failed = {"state": "failed", "message": str(error)}
            return await case.update(save=state.model_copy(update=failed))
        log.info("instance_saved", instance_id=str(case.id), reference=order.reference)
        if tools.registry and order.reference.startswith(f"{tools.registry}/"):
            kept = Kept(image_id=order.image_id, size_bytes=image.size_bytes)
            return await case.update(kept=kept)
        saved = {"state": "saved", "digest": image.digest, "size_bytes": image.size_bytes}
        return await case.update(save=state.model_copy(update=saved))

    async def _erase(self, containers: Sequence[str]) -> None:
        case, tools = self._case, self._case.tools
        case.show(Doing(ObservedState.stopping))
        await self._note_stop("ordered_at")
        for container in containers:
            await tools.engine.remove(container)
        for tag in await tools.engine.tags(disk_repository(case.id)):
            await tools.engine.untag(tag)
        await asyncio.to_thread(folders.remove_folders, case.id, tools.host)
        await asyncio.to_thread(tools.journal.forget_originals, case.id)
        case.containers = []
        case.entry = settle(case.known, None, boot_id=tools.boot_id, now=utc_now())
        await case.update(erased_at=utc_now())
        log.info("instance_erased", instance_id=str(case.id))

    async def _fail(self, order: DesiredInstance, message: str) -> None:
        case = self._case
        log.warning("instance_failed", instance_id=str(case.id), message=message)
        await case.update(failure=Failure(token=order.start_token, message=message[:500]))

    def _run(self, order: DesiredInstance, before: str) -> Run:
        return Run(token=order.start_token, before=before, boot_id=self._case.tools.boot_id)
