"""Drives one instance to what is ordered: observes, plans, acts, until nothing is left to do.

One pass at a time per instance; instances do not wait for one another. On the way from order to
start nothing is asked that is not needed: a new instance costs create and start.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from agent import folders
from agent.acting import Acting
from agent.case import Case, Tools
from agent.engine import ContainerFact, EngineRefused, EngineUnavailable
from agent.journal import Entry
from agent.launch import spec_hash
from agent.lease import is_worth_writing, renewed
from agent.observe import observe
from agent.pushing import Pushing
from agent.reconcile import (
    Action,
    Create,
    current_of,
    entry_from_labels,
    expire,
    fresh_entry,
    is_outdated,
    plan,
    settle,
)
from shared.clock import utc_now
from shared.events.agent import DesiredInstance, ObservedInstance

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class Instance:
    def __init__(
        self,
        instance_id: UUID,
        tools: Tools,
        entry: Entry | None = None,
        containers: Sequence[ContainerFact] = (),
    ) -> None:
        if entry is None and containers:
            entry = entry_from_labels(containers)
        self.id = instance_id
        self.passes = 0
        self.busy = False
        self._tools = tools
        self._case = Case(instance_id, tools, entry, list(containers))
        self._case.lease = entry.lease if entry is not None else None
        # A report may leave before the first pass.
        self._settle()
        self._pushing = Pushing(
            tools.engine, ended=self._case.wake.set, moved=lambda: tools.changed(False)
        )
        self._acting = Acting(self._case, self._pushing)
        self._case.wake.set()

    @property
    def order(self) -> DesiredInstance | None:
        return self._case.order

    @property
    def entry(self) -> Entry | None:
        return self._case.entry

    def accept(self, order: DesiredInstance, issued_at: datetime) -> None:
        case, tools = self._case, self._tools
        if is_outdated(order, case.entry):
            log.warning("order_outdated", instance_id=str(self.id), generation=order.generation)
            return
        now_s = tools.boot_clock()
        case.lease = renewed(case.lease, order, issued_at, boot_id=tools.boot_id, now_s=now_s)
        wanted = order.model_copy(update={"paid_until": None})
        journaled = case.entry.lease if case.entry is not None else None
        if wanted != case.order or is_worth_writing(journaled, case.lease, now_s=now_s):
            case.order = wanted
            case.wake.set()

    def disown(self) -> None:
        """The list of orders lacks it: leave everything as it is."""
        self._case.order = None

    def watch_lease(self) -> None:
        """Called again and again, since only the clock says that a lease is over."""
        if self._case.lease_is_over and any(c.running for c in self._case.containers):
            self._case.wake.set()

    def saw(self, containers: Sequence[ContainerFact]) -> None:
        """From a full listing taken while this instance was at rest."""
        if list(containers) != self._case.containers:
            self._case.look_again()

    def look_again(self) -> None:
        self._case.look_again()

    def report(self) -> ObservedInstance | None:
        """None when there is nothing to say: neither ordered nor there."""
        case = self._case
        if case.entry is None or (case.order is None and not case.containers):
            return None
        seen = observe(case.order, case.entry, current_of(case.containers), case.doing)
        if seen.save is not None and seen.save.image_id == self._pushing.image_id:
            saying = seen.save.model_copy(update={"message": self._pushing.words})
            seen = seen.model_copy(update={"save": saying})
        return seen

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._case.wake.wait()
                await self._pass()
        finally:
            await self._pushing.end()

    async def _pass(self) -> None:
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
        self._case.wake.clear()
        asyncio.get_running_loop().call_later(RETRY_S, self.look_again)

    async def _converge(self) -> None:
        case = self._case
        while True:
            case.wake.clear()
            order = case.order
            await self._observe(order)
            if case.entry is None:
                return case.show(None)
            actions = await self._plan(order, case.entry)
            if not actions or not isinstance(actions[0], Create):
                await case.write()
            if not actions:
                return case.show(None)
            if order is not None:
                await self._acting.act(order, actions)
            else:
                await self._acting.end_lease(actions)

    async def _plan(self, order: DesiredInstance | None, entry: Entry) -> list[Action]:
        case = self._case
        if order is None:
            return expire(current_of(case.containers), entry) if case.lease_is_over else []
        originals = await asyncio.to_thread(self._tools.journal.originals, self.id)
        return plan(
            order,
            spec_hash(order, simulated=self._tools.host.simulated),
            case.containers,
            entry,
            has_originals=originals is not None,
            lease_over=case.lease_is_over,
            pushing=self._pushing.image_id is not None,
        )

    async def _observe(self, order: DesiredInstance | None) -> None:
        """Bring entry and containers up to date with order, engine and push."""
        case, tools = self._case, self._tools
        await self._end_push(order)
        if case.must_list:
            case.must_list = False
            try:
                case.containers = await tools.engine.containers(tools.host.node_id, self.id)
            except BaseException:
                case.must_list = True
                raise
        # At once: a report between the two would say that it ended, and not when.
        before = case.entry
        if order is not None:
            entry = before or fresh_entry(tools.host.node_id, order, case.containers)
            case.entry = self._ordered(entry, order)
        self._settle()
        if case.entry != before:
            case.unwritten = True
        runs = any(c.running for c in case.containers)
        if order is not None and order != case.prepared and runs:
            await asyncio.to_thread(folders.write_run_folder, order, tools.host)
            case.prepared = order

    def _settle(self) -> None:
        case = self._case
        if case.entry is None:
            return
        settled = settle(
            case.entry, current_of(case.containers), boot_id=self._tools.boot_id, now=utc_now()
        )
        if settled != case.entry:
            case.entry, case.unwritten = settled, True

    def _ordered(self, entry: Entry, order: DesiredInstance) -> Entry:
        case = self._case
        keeps = entry.failure is not None and entry.failure.token == order.start_token
        lease, now_s = entry.lease, self._tools.boot_clock()
        if is_worth_writing(lease, case.lease, now_s=now_s):
            lease = case.lease
        return entry.model_copy(
            update={
                "generation": max(order.generation, entry.generation),
                "token": order.start_token,
                "failure": entry.failure if keeps else None,
                "save": entry.save if order.save is not None else None,
                "kept": entry.kept if order.save is not None else None,
                "lease": lease,
            }
        )

    async def _end_push(self, order: DesiredInstance | None) -> None:
        """Takes its result into the journal, or gives it up when nobody wants it."""
        case, pushing = self._case, self._pushing
        if pushing.image_id is None:
            return
        if order is not None:
            wanted = order.save if order.want != "absent" else None
            if wanted is None or wanted.image_id != pushing.image_id:
                return await pushing.end()
        pushed, entry = pushing.result, case.entry
        if pushed is None or entry is None or entry.save is None:
            return None
        if pushed.image is None:
            result: dict[str, object] = {"state": "failed", "message": pushed.message}
        else:
            image = pushed.image
            result = {"state": "saved", "digest": image.digest, "size_bytes": image.size_bytes}
        await case.update(save=entry.save.model_copy(update=result), kept=None)
        await pushing.end()
