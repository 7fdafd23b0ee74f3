"""`chusuan up` in a process of its own, on ports and a state folder that meet nobody else's."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.e2e.people import Json, log_in, run
from tests.e2e.waiting import until

REPOSITORY = Path(__file__).parents[2]
# What the tests start from; the big images have tests of their own.
RECIPES = ("minimal", "jupyter")
PORTS_EACH = 100


@dataclass
class RunningPlatform:
    """recipes: the system images it has. environment: of its process, beside ours."""

    home: Path
    recipes: Sequence[str] = RECIPES
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_port())
    sftp_port: int = field(default_factory=lambda: free_port())
    process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        recipes = self.home / "recipes"
        recipes.mkdir(exist_ok=True)
        for name in self.recipes:
            shutil.copytree(
                REPOSITORY / "deploy" / "images" / name, recipes / name, dirs_exist_ok=True
            )
        # Below the range from which outgoing connections take theirs.
        first = 24000 + self.port % 80 * PORTS_EACH
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", "up",
            "--port", str(self.port), "--sftp-port", str(self.sftp_port),
            "--instance-ports", f"{first}-{first + PORTS_EACH - 1}", "--recipes", str(recipes),
            cwd=REPOSITORY,
            env={**os.environ, "CHUSUAN_HOME": str(self.home), **self.environment},
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

    async def clear(self) -> None:
        """Stop, and leave neither containers nor state on the machine."""
        await self.stop()
        await run(
            sys.executable, "-m", "cli.main", "clean-state", "--home", str(self.home),
            stdin=b"yes\n",
        )  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def system_image(platform: RunningPlatform, name: str) -> Json:
    """Once it is built and there are hosts to run it on."""
    found: Json = {}
    password = (platform.home / "operator-password").read_text().strip()
    person = await log_in(platform.url, "admin", password)

    async def ready() -> bool:
        for item in (await person.get("/images", tab="system", name=name))["items"]:
            found.update(item)
        assert found.get("status") != "failed", found
        hosts = (await person.get("/offers"))["total"]
        return bool(found.get("status") == "ready" and hosts)

    try:
        await until(ready, timeout_s=900, what=f"the image {name} is built")
    finally:
        await person.http.aclose()
    return found
