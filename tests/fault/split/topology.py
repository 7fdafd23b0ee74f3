"""The split shape as the fault suite needs it: its parts die alone, each host has an engine."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from agent.engine import LABEL_INSTANCE
from cli.up.home import SERVICES
from tests.e2e.hosts import Host
from tests.e2e.people import Json
from tests.e2e.split import SplitPlatform
from tests.e2e.waiting import until
from tests.fault.topology import Row

SILENT_AFTER_S = 4.0
LOST_AFTER_S = 12.0
# Contact is told, looked at and proven so often that a loss takes seconds. With three hosts, two
# silent ones are more than half.
QUICK = {
    "CHUSUAN_SILENT_AFTER_S": str(SILENT_AFTER_S),
    "CHUSUAN_LOST_AFTER_S": str(LOST_AFTER_S),
    "CHUSUAN_BREAKER_LEAST": "3",
    "CHUSUAN_USAGE_PROOF_S": "5",
    "CHUSUAN_AGENT_HEARTBEAT_S": "1",
}


@dataclass
class Split:
    platform: SplitPlatform
    services: tuple[str, ...] = SERVICES

    @property
    def url(self) -> str:
        return self.platform.url

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.platform.parts)

    @property
    def agents(self) -> list[Path]:
        return [host.folder / "state" for host in self.platform.hosts]

    @property
    def storage(self) -> Path:
        return self.platform.home / "storage"

    @property
    def operator_password(self) -> str:
        return self.platform.operator_password

    async def start(self) -> None:
        await self.platform.start()

    async def kill(self, part: str) -> None:
        await self.platform.parts[part].kill()

    async def died(self) -> None:
        running = [part.running for part in self.platform.parts.values() if part.running]
        ends = [asyncio.ensure_future(process.wait()) for process in running]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def ask(self, service: str, question: str, *values: object) -> list[Row]:
        return [dict(row) for row in await self.platform.ask(service, question, *values)]

    async def containers(self) -> list[Json]:
        found = await asyncio.gather(*(containers_on(host) for host in self.platform.hosts))
        return [container for each in found for container in each]

    async def host_of(self, instance: Json) -> Host:
        (row,) = await self.ask(
            "scheduler",
            "SELECT n.name FROM instances i JOIN nodes n ON n.id = i.node_id WHERE i.id = $1::uuid",
            instance["id"],
        )
        return next(h for h in self.platform.hosts if f"host-{h.number}" == row["name"])

    async def node(self, host: Host) -> Row:
        """Its row at the scheduler."""
        name = f"host-{host.number}"
        (row,) = await self.ask("scheduler", "SELECT * FROM nodes WHERE name = $1", name)
        return row

    async def node_becomes(self, host: Host, *states: str, within_s: float = 60) -> None:
        async def arrived() -> bool:
            return (await self.node(host))["state"] in states

        await until(arrived, timeout_s=within_s, what=f"host-{host.number} is {states}")

    @contextlib.asynccontextmanager
    async def restarted_with(self, part: str, **settings: str) -> AsyncIterator[None]:
        """The part runs with other settings for a while."""
        process = self.platform.parts[part]
        before = process.environment
        process.environment = {**before, **settings}
        await process.kill()
        await self.start()
        try:
            yield
        finally:
            process.environment = before
            await process.kill()
            await self.start()


async def containers_on(host: Host) -> list[Json]:
    shown: list[Json] = []
    for container in (
        await host.docker("ps", "-aq", "--filter", f"label={LABEL_INSTANCE}")
    ).split():
        try:
            shown += json.loads(await host.docker("inspect", container))
        except AssertionError as gone:
            if "No such" not in str(gone):
                raise
    return shown
