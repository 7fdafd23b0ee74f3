"""A thousand agents without containers: each speaks the real contract over its own login at the
broker, and has a personality. The machine's answers are made up; what the platform makes of them
is real.

    python -m bench.fleet.agents CREDENTIALS.json SEED

Reads node numbers on standard input: `lose 7` makes that agent vanish without a word.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import uvloop

from shared.bus import Bus, Keeping, Subscription, Undeliverable, open_bus
from shared.clock import utc_now
from shared.events.agent import (
    DesiredInstance,
    EndReason,
    Gpu,
    ImageReported,
    ImagesWanted,
    Inventory,
    NodeDesired,
    NodeReported,
    ObservedInstance,
    ObservedState,
)
from shared.events.envelope import Envelope
from shared.ids import new_id

HEARTBEAT_S = 5.0
# One process plays them all: more at once would keep one another waiting beyond their deadlines.
CONNECT_AT_ONCE = 8
# Longer than a host may be silent: it is missed, and comes back.
DOWN_S = 20.0
GPUS = 10
# The boot of a report that a liar makes in another's name.
LIE = "a-lie"
GIB = 1 << 30


class Personality(StrEnum):
    normal = "normal"
    slow = "slow"  # 5 to 20 s from order to running
    never = "never"  # its starts never end
    lying = "lying"  # also tells of old orders and of starts that never were, and for another node
    duplicating = "duplicating"  # says everything up to three times
    dying = "dying"  # the host goes down right after a create, and comes back


# Of every hundred agents; the rest are normal.
SHARES = {
    Personality.slow: 10,
    Personality.never: 1,
    Personality.lying: 3,
    Personality.duplicating: 5,
    Personality.dying: 1,
}


def personality_of(number: int) -> Personality:
    place, first = number % 100, 0
    for personality, share in SHARES.items():
        if first <= place < first + share:
            return personality
        first += share
    return Personality.normal


@dataclass(slots=True)
class Run:
    """What this agent holds of one instance. generation, token: of the newest order."""

    generation: int
    token: UUID
    state: ObservedState = ObservedState.absent
    started_at: datetime | None = None
    finished_at: datetime | None = None
    end_reason: EndReason | None = None
    work: "asyncio.Task[None] | None" = None


@dataclass
class FakeAgent:
    """victim: whom it speaks for when it lies. builds: it also says that every image is ready."""

    number: int
    node_id: UUID
    bus: Bus
    chance: random.Random
    victim: UUID
    builds: bool = False
    runs: dict[UUID, Run] = field(default_factory=dict)
    boot_id: str = field(default_factory=lambda: new_id().hex)
    inventory: Inventory = field(init=False)
    _sequence: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _down_until: float = 0.0

    def __post_init__(self) -> None:
        self.inventory = _inventory(self.node_id)

    @property
    def personality(self) -> Personality:
        return personality_of(self.number)

    async def run(self, turns: asyncio.Semaphore) -> None:
        async with turns:
            await self._connect()
            await self._tell()
        # From here on as hosts that were not switched on by one hand.
        await asyncio.sleep(self.chance.uniform(0, HEARTBEAT_S))
        while True:
            await self._tell()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._changed.wait()
            await asyncio.sleep(0.3)

    async def _connect(self) -> None:
        await self.bus.subscribe(
            Subscription(
                f"agent.{self.node_id}.desired", (NodeDesired.type,), self._take,
                subject=str(self.node_id), keeping=Keeping.states,
            )
        )  # fmt: skip
        if self.builds:
            await self.bus.subscribe(
                Subscription(
                    f"agent.{self.node_id}.images", (ImagesWanted.type,), self._build,
                    keeping=Keeping.states,
                )
            )  # fmt: skip

    async def _build(self, envelope: Envelope) -> None:
        for image in ImagesWanted.model_validate(envelope.data).images:
            report = ImageReported(
                image_id=image.image_id, state="ready", progress=1.0,
                digest=f"sha256:{image.image_id.hex * 2}", size_bytes=GIB,
            )  # fmt: skip
            await self.bus.publish(Envelope.wrap(report, subject=image.image_id))

    async def _take(self, envelope: Envelope) -> None:
        if self._is_down:
            return
        for order in NodeDesired.model_validate(envelope.data).instances:
            run = self.runs.get(order.instance_id)
            if run is None:
                run = self.runs[order.instance_id] = Run(order.generation, order.start_token)
            elif order.generation < run.generation:
                continue
            self._follow(run, order)

    def _follow(self, run: Run, order: DesiredInstance) -> None:
        new_start = order.start_token != run.token
        run.generation, run.token = order.generation, order.start_token
        if order.want == "running":
            fresh = run.state is ObservedState.absent and run.work is None
            if new_start or fresh:
                self._end_work(run)
                run.started_at = run.finished_at = run.end_reason = None
                run.work = asyncio.create_task(self._start(run))
            return
        self._end_work(run)
        if run.state is ObservedState.running:
            run.finished_at, run.end_reason = utc_now(), EndReason.ordered
        target = ObservedState.stopped if order.want == "stopped" else ObservedState.absent
        if run.state is not target:
            run.state = target
            self._changed.set()

    @property
    def _is_down(self) -> bool:
        return time.monotonic() < self._down_until

    @staticmethod
    def _end_work(run: Run) -> None:
        if run.work is not None:
            run.work.cancel()
            run.work = None

    async def _start(self, run: Run) -> None:
        run.state = ObservedState.creating
        self._changed.set()
        if self.personality is Personality.never:
            return
        is_slow = self.personality is Personality.slow
        await asyncio.sleep(self.chance.uniform(5, 20) if is_slow else self.chance.uniform(0.2, 1))
        if self.personality is Personality.dying and self._down_until == 0.0:
            return self._die()
        run.state, run.started_at = ObservedState.running, utc_now()
        self._changed.set()

    def _die(self) -> None:
        """Once: everything on it ends; it is back after a while with another boot."""
        self._down_until = time.monotonic() + DOWN_S
        self.boot_id = new_id().hex
        for run in self.runs.values():
            self._end_work(run)
            if run.state in (ObservedState.creating, ObservedState.running):
                run.state = ObservedState.stopped
                run.finished_at, run.end_reason = utc_now(), EndReason.host_down

    async def _tell(self) -> None:
        if self._is_down:
            return
        times = self.chance.randint(1, 3) if self.personality is Personality.duplicating else 1
        report = self._report()
        for _ in range(times):
            await self._publish(report)
        if self.personality is Personality.lying:
            await self._publish(self._lie(report))

    async def _publish(self, report: NodeReported) -> None:
        envelope = Envelope.wrap(report, subject=self.node_id, sequence=report.sequence)
        with contextlib.suppress(Undeliverable):
            await self.bus.publish(envelope)

    def _lie(self, report: NodeReported) -> NodeReported:
        """All runs since long ago, under an older order or a start that never was; and half the
        time another node says so, which has booted anew and holds nothing else."""
        since = datetime.fromtimestamp(0, tz=report.reported_at.tzinfo)
        runs = {"state": ObservedState.running, "started_at": since}
        false = [
            one.model_copy(
                update=runs
                | self.chance.choice(
                    [{"generation": one.generation - 1}, {"start_token": new_id()}]
                )
            )
            for one in report.instances
        ]
        lie = {"instances": false, "sequence": report.sequence + 1}
        if self.chance.random() < 0.5:
            lie |= {"node_id": self.victim, "boot_id": LIE}
        return report.model_copy(update=lie)

    def _report(self) -> NodeReported:
        self._sequence = max(self._sequence + 2, time.time_ns() // 1_000_000)
        return NodeReported(
            node_id=self.node_id, name=f"fleet-{self.number}", region="fleet", simulated=True,
            boot_id=self.boot_id, sequence=self._sequence, reported_at=utc_now(),
            inventory=self.inventory,
            instances=[self._observed(i, run) for i, run in self.runs.items()],
        )  # fmt: skip

    @staticmethod
    def _observed(instance_id: UUID, run: Run) -> ObservedInstance:
        return ObservedInstance(
            instance_id=instance_id, generation=run.generation, start_token=run.token,
            state=run.state, started_at=run.started_at, finished_at=run.finished_at,
            end_reason=run.end_reason,
        )  # fmt: skip


def _inventory(node_id: UUID) -> Inventory:
    gpus = [
        Gpu(uuid=f"GPU-{node_id}-{i}", index=i, model="Fleet", memory_mib=24564, simulated=True)
        for i in range(GPUS)
    ]
    return Inventory(
        gpus=gpus, cpu_model="fleet", cpu_cores=128.0, memory_bytes=512 * GIB,
        disk_bytes=4000 * GIB, disk_free_bytes=3000 * GIB, driver_version="570.124",
        max_cuda="12.8", address="127.0.0.1", app_address="127.0.0.1",
        port_first=22000, port_last=22099,
    )  # fmt: skip


async def _obey(agents: dict[int, "asyncio.Task[None]"], buses: dict[int, Bus]) -> None:
    """`lose N` on standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        number = int(line[1])
        agents[number].cancel()
        await buses[number].close()


def _say_why(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        sys.stderr.write(f"an agent ended: {error!r}\n")


async def main(credentials: Path, seed: int) -> None:
    tasks: dict[int, asyncio.Task[None]] = {}
    buses: dict[int, Bus] = {}
    known = json.loads(credentials.read_text())
    turns = asyncio.Semaphore(CONNECT_AT_ONCE)
    ids = [UUID(each["node_id"]) for each in known]
    for number, each in enumerate(known):
        buses[number] = open_bus(each["bus_url"])
        chance = random.Random(seed + number)
        agent = FakeAgent(
            number, ids[number], buses[number], chance,
            victim=ids[number - 1], builds=number == len(known) - 1,
        )  # fmt: skip
        tasks[number] = asyncio.create_task(agent.run(turns))
        tasks[number].add_done_callback(_say_why)
    await _obey(tasks, buses)
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
