"""What a fault suite needs of a platform, whatever its shape: to start it, to break its parts, and
to see what no route would tell."""

import asyncio
import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from agent.engine import LABEL_NODE
from cli.up.home import SERVICES, read_node_ids
from tests.e2e.people import Json
from tests.e2e.platform import EmbeddedPlatform

Row = dict[str, Any]


class Topology(Protocol):
    """url: the gateway's. services: those that have a database. parts: what can be killed alone.
    agents: state folders of all agents. storage: the net disk's root."""

    @property
    def url(self) -> str: ...

    @property
    def services(self) -> tuple[str, ...]: ...

    @property
    def parts(self) -> tuple[str, ...]: ...

    @property
    def agents(self) -> list[Path]: ...

    @property
    def storage(self) -> Path: ...

    @property
    def operator_password(self) -> str: ...

    async def start(self) -> None:
        """What is not running; returns when the platform answers."""
        ...

    async def kill(self, part: str) -> None:
        """SIGKILL, without a goodbye."""
        ...

    async def died(self) -> None:
        """Returns when a part has ended by itself."""
        ...

    async def ask(self, service: str, question: str, *values: object) -> list[Row]:
        """Of a service's own database, in asyncpg's words."""
        ...

    async def containers(self) -> list[Json]:
        """The engine's whole word on every container of all hosts, as `docker inspect` has it."""
        ...


@dataclass
class Embedded:
    """`chusuan up`: one process, one home."""

    platform: EmbeddedPlatform
    parts: tuple[str, ...] = ("platform",)
    services: tuple[str, ...] = SERVICES

    @property
    def home(self) -> Path:
        return self.platform.home

    @property
    def url(self) -> str:
        return self.platform.url

    @property
    def agents(self) -> list[Path]:
        return [self.home / "agent"]

    @property
    def storage(self) -> Path:
        return self.home / "storage"

    @property
    def operator_password(self) -> str:
        return (self.home / "operator-password").read_text().strip()

    async def start(self) -> None:
        process = self.platform.process
        if process is None or process.returncode is not None:
            await self.platform.start()

    async def kill(self, part: str = "platform") -> None:
        assert part in self.parts
        await self.platform.kill()

    async def died(self) -> None:
        assert self.platform.process is not None
        await self.platform.process.wait()

    async def ask(self, service: str, question: str, *values: object) -> list[Row]:
        connection = await asyncpg.connect(
            host=str(self.home / "postgres" / "run"), user="postgres", database=service
        )
        try:
            return [dict(row) for row in await connection.fetch(question, *values)]
        finally:
            await connection.close()

    async def containers(self) -> list[Json]:
        return await asyncio.to_thread(_containers, read_node_ids(self.home / "agent"))


@dataclass
class CrashPoints:
    """What `shared.crashing` reads and writes of a platform that was started with `environment`."""

    folder: Path

    def __post_init__(self) -> None:
        self._at.touch()
        self._record.touch()

    @property
    def environment(self) -> dict[str, str]:
        return {"CHUSUAN_CRASH_AT": f"@{self._at}", "CHUSUAN_CRASH_RECORD": str(self._record)}

    @property
    def _at(self) -> Path:
        return self.folder / "crash-at"

    @property
    def _record(self) -> Path:
        return self.folder / "crash-record"

    def arm(self, point: str) -> None:
        """`name#n`, counted from now on; empty: none."""
        self._at.write_text(point)

    def mark(self) -> int:
        return self._record.stat().st_size

    def passed_since(self, mark: int) -> Counter[str]:
        with self._record.open() as record:
            record.seek(mark)
            return Counter(record.read().split())


def docker(*words: str) -> str:
    """The machine's own engine. Raises CalledProcessError with what it said."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


def _containers(nodes: list[str]) -> list[Json]:
    ids = [
        found
        for node in nodes
        for found in docker("ps", "-aq", "--filter", f"label={LABEL_NODE}={node}").split()
    ]
    shown: list[Json] = []
    for container in ids:
        try:
            shown += json.loads(docker("inspect", container))
        except RuntimeError as gone:
            if "No such" not in str(gone):
                raise
    return shown
