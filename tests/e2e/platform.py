"""The platform as it runs for users, in processes of its own, on ports and a state folder that
meet nobody else's. `RunningPlatform` says what the tests ask of either shape; `EmbeddedPlatform` is
`chusuan up`, the split one is in `split.py`."""

import asyncio
import os
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx

from tests.e2e.people import Json, log_in, run
from tests.e2e.waiting import until
from tests.ports import free_port as free_port
from tests.ports import instance_ports

REPOSITORY = Path(__file__).parents[2]
# What the tests start from; the big images have tests of their own.
RECIPES = ("minimal", "jupyter")
READY_S = 180
CLEARS_S = 180


@dataclass
class RunningPlatform(ABC):
    """recipes: the system images it has. environment: of its processes, beside ours."""

    home: Path
    recipes: Sequence[str] = RECIPES
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_port())
    sftp_port: int = field(default_factory=lambda: free_port())
    metrics_port: int = field(default_factory=lambda: free_port())
    instance_ports: tuple[int, int] = field(default_factory=lambda: instance_ports())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def operator_password(self) -> str:
        return (self.home / "operator-password").read_text().strip()

    @abstractmethod
    async def start(self) -> None:
        """Everything up and answering."""

    @abstractmethod
    async def stop(self) -> None:
        """Containers run on."""

    @abstractmethod
    async def kill(self) -> None:
        """Every process of ours, as a power cut would: no goodbye."""

    @abstractmethod
    async def clear(self) -> None:
        """Stop, and leave neither containers nor state on the machine."""

    @abstractmethod
    async def docker(self, *words: str) -> str:
        """The same command at the engine of each host; what they print, together."""

    @abstractmethod
    def log(self) -> str:
        """All that its parts have told."""

    async def containers_of(self, instance: Json) -> str:
        """Ids of all containers of an instance, running or not, by Docker's word."""
        return await self.docker(
            "ps", "-aq", "--filter", f"label=chusuan.instance={instance['id']}"
        )

    async def ask(self, database: str, question: str, *values: object) -> list[asyncpg.Record]:
        """Of the platform's own database: what no route would tell."""
        connection = await asyncpg.connect(
            host=str(self.home / "postgres" / "run"), user="postgres", database=database
        )
        try:
            return list(await connection.fetch(question, *values))
        finally:
            await connection.close()

    def copy_recipes(self) -> Path:
        recipes = self.home / "recipes"
        recipes.mkdir(exist_ok=True)
        for name in self.recipes:
            shutil.copytree(
                REPOSITORY / "deploy" / "images" / name, recipes / name, dirs_exist_ok=True
            )
        return recipes

    async def wait_until_ready(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:

            async def ready() -> bool:
                self.assert_runs()
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, timeout_s=READY_S, what="the platform is ready")

    @abstractmethod
    def assert_runs(self) -> None:
        """Fails with the log of what has ended by itself."""


@dataclass
class EmbeddedPlatform(RunningPlatform):
    process: asyncio.subprocess.Process | None = field(default=None)

    async def start(self) -> None:
        recipes = self.copy_recipes()
        first, last = self.instance_ports
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", "up",
            "--port", str(self.port), "--sftp-port", str(self.sftp_port),
            "--metrics", f"127.0.0.1:{self.metrics_port}",
            "--instance-ports", f"{first}-{last}", "--recipes", str(recipes),
            cwd=REPOSITORY,
            env={**os.environ, "CHUSUAN_HOME": str(self.home), **self.environment},
            stdout=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        await self.wait_until_ready()

    def assert_runs(self) -> None:
        assert self.process is not None
        assert self.process.returncode is None, self.log()[-4000:]

    def log(self) -> str:
        return (self.home / "platform.log").read_text(errors="replace")

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            await self.process.wait()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def clear(self) -> None:
        await self.stop()
        await run(
            sys.executable, "-m", "cli.main", "clean-state", "--home", str(self.home),
            stdin=b"yes\n", timeout_s=CLEARS_S,
        )  # fmt: skip

    async def docker(self, *words: str) -> str:
        return await run("docker", *words)


async def system_image(platform: RunningPlatform, name: str) -> Json:
    """Once it is built and there are hosts to run it on."""
    found: Json = {}
    person = await log_in(platform.url, "admin", platform.operator_password)

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
