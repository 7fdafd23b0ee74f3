"""All that is known of one instance, and what its passes work with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from agent.engine import ContainerFact, Engine
from agent.journal import Entry, Journal, Lease
from agent.launch import Host
from agent.lease import is_over
from agent.observe import Doing
from shared.events.agent import DesiredInstance, ObservedState


@dataclass(frozen=True, slots=True)
class Tools:
    """What all instances of a node work with.

    registry: HOST:PORT of the registry that saved images go to; empty: they stay on this host.
    boot_clock: seconds since the boot, suspended ones too.
    changed: tells the node to report, at once where the instance has arrived somewhere, soon where
    it is on its way.
    """

    host: Host
    engine: Engine
    journal: Journal
    boot_id: str
    boot_clock: Callable[[], float]
    registry: str
    stop_grace_s: int
    ready_timeout_s: float
    changed: Callable[[bool], None]


@dataclass
class Case:
    """order: without `paid_until`, which moves with each message. lease: what became of that.
    prepared: the order that the run folder says. created: the container made last.
    unwritten: the journal says less than `entry`. must_list: the engine may say something new.
    """

    id: UUID
    tools: Tools
    entry: Entry | None
    containers: list[ContainerFact]
    order: DesiredInstance | None = None
    lease: Lease | None = None
    doing: Doing | None = None
    prepared: DesiredInstance | None = None
    created: str = ""
    unwritten: bool = False
    must_list: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def known(self) -> Entry:
        if self.entry is None:
            raise LookupError(f"instance {self.id} has no journal yet")
        return self.entry

    @property
    def lease_is_over(self) -> bool:
        tools = self.tools
        return is_over(self.lease, boot_id=tools.boot_id, now_s=tools.boot_clock())

    def look_again(self) -> None:
        self.must_list = True
        self.wake.set()

    def show(self, doing: Doing | None) -> None:
        self.doing = doing
        self.tools.changed(doing is None or doing.state is ObservedState.running)

    async def update(self, **changes: object) -> None:
        """On disk when it returns."""
        self.entry = self.known.model_copy(update=changes)
        self.unwritten = True
        await self.write()

    async def write(self) -> None:
        if self.unwritten and self.entry is not None:
            self.unwritten = False
            await asyncio.to_thread(self.tools.journal.write, self.entry)
