"""The whole platform as a user starts it: `chusuan up` in a process of its own."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.waiting import until

REPOSITORY = Path(__file__).parents[2]


@dataclass
class RunningPlatform:
    home: Path
    port: int
    process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        environment = {
            **os.environ,
            "CHUSUAN_HOME": str(self.home),
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", "up", "--port", str(self.port),
            cwd=REPOSITORY, env=environment,
            stdout=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            await until(lambda: self._ready(http), timeout_s=180, what="the platform is ready")

    async def _ready(self, http: httpx.AsyncClient) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.home / "platform.log").read_text()[-4000:]
        try:
            return (await http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            await self.process.wait()

    async def kill(self) -> None:
        """As a power cut would: no goodbye."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
async def platform() -> AsyncIterator[RunningPlatform]:
    home = Path(tempfile.mkdtemp(prefix="chusuan-e2e-"))
    running = RunningPlatform(home, free_port())
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
        log = (home / "platform.log").read_text(errors="replace")
        sys.stderr.write(log[-6000:] if os.environ.get("CHUSUAN_SHOW_LOG") else "")
        shutil.rmtree(home)
