"""A process of ours: one service, the gateway or an agent."""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.platform import REPOSITORY

STOPS_S = 15


@dataclass
class Process:
    """It may be killed and started again. logs: the folder of its log."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    logs: Path
    running: asyncio.subprocess.Process | None = field(default=None)

    async def start(self) -> None:
        if self.running is not None and self.running.returncode is None:
            return
        with (self.logs / f"{self.name}.log").open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(
                *self.command, cwd=REPOSITORY, env={**os.environ, **self.environment},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def kill(self) -> None:
        if self.running is not None and self.running.returncode is None:
            self.running.kill()
            await self.running.wait()
        # Ended by us: nothing to be alarmed about.
        self.running = None

    async def stop(self) -> None:
        if self.running is None or self.running.returncode is not None:
            return
        self.running.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOPS_S):
                await self.running.wait()
        await self.kill()

    def log(self) -> str:
        path = self.logs / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""
