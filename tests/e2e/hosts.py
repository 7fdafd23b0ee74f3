"""GPU hosts on one machine: a network namespace and a Docker Engine of its own each.

They stand on one bridge behind the address where the control plane listens, and reach nothing
else. Needs root and Debian's docker.io.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.people import run
from tests.e2e.waiting import until

PREFIX = "10.77"
INTERFACES = Path("/sys/class/net")
ENGINE_STARTS_S = 60


def possible() -> str:
    """Why not, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("dockerd", "ip", "nsenter", "iptables") if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


@dataclass
class Network:
    """net: the third number of its addresses, so that two runs do not meet."""

    net: int

    @classmethod
    def free(cls) -> "Network":
        numbers = random.sample(range(2, 250), 248)
        return next(n for n in map(cls, numbers) if not (INTERFACES / n.bridge).exists())

    @property
    def bridge(self) -> str:
        return f"chut{self.net}"

    @property
    def address(self) -> str:
        """Of the control plane."""
        return f"{PREFIX}.{self.net}.1"

    async def make(self) -> None:
        await run("ip", "link", "add", self.bridge, "type", "bridge")
        await run("ip", "addr", "add", f"{self.address}/24", "dev", self.bridge)
        await run("ip", "link", "set", self.bridge, "up")

    async def remove(self) -> None:
        with contextlib.suppress(AssertionError):
            await run("ip", "link", "del", self.bridge)


@dataclass
class Host:
    """number: 1…; folder: of its engine and its agent."""

    network: Network
    number: int
    folder: Path
    engine: asyncio.subprocess.Process | None = field(default=None)

    @property
    def name(self) -> str:
        return f"{self.network.bridge}n{self.number}"

    @property
    def address(self) -> str:
        return f"{PREFIX}.{self.network.net}.{self.number + 1}"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command: to run it in the host's network."""
        # Not `ip netns exec`: it mounts a /sys of its own, without cgroups.
        return ("nsenter", f"--net=/run/netns/{self.name}")

    async def make(self, *, insecure_registry: str) -> None:
        await self._make_network()
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.start_engine(insecure_registry)

    async def _make_network(self) -> None:
        with contextlib.suppress(AssertionError):
            await run("ip", "netns", "del", self.name)
        await run("ip", "netns", "add", self.name)
        outside = f"{self.name}h"
        await run(
            "ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0",
            "netns", self.name,
        )  # fmt: skip
        await run("ip", "link", "set", outside, "master", self.network.bridge, "up")
        for words in (
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {self.network.address}",
        ):
            await run("ip", "-n", self.name, *words.split())

    async def start_engine(self, insecure_registry: str, *more: str) -> None:
        """more: words of its command line."""
        with (self.folder / "engine.log").open("ab") as log:
            self.engine = await asyncio.create_subprocess_exec(
                *self.inside, "dockerd",
                "--data-root", str(self.folder / "data"),
                "--exec-root", str(self.folder / "exec"),
                "--pidfile", str(self.folder / "docker.pid"),
                "--host", self.docker_host,
                "--insecure-registry", insecure_registry,
                "--bridge", "none", *more,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

        async def answers() -> bool:
            assert self.engine is not None
            assert self.engine.returncode is None, (self.folder / "engine.log").read_text()[-2000:]
            with contextlib.suppress(AssertionError):
                await self.docker("version")
                return True
            return False

        await until(answers, timeout_s=ENGINE_STARTS_S, what=f"the engine of {self.name} answers")

    async def docker(self, *words: str, stdin: bytes | None = None) -> str:
        return await run("docker", "--host", self.docker_host, *words, stdin=stdin, timeout_s=300)

    async def kill_engine(self) -> None:
        """As kill -9 would; containers end with it unless it lives restore."""
        assert self.engine is not None
        os.kill(int((self.folder / "docker.pid").read_text()), signal.SIGKILL)
        await self.engine.wait()

    async def cut(self) -> None:
        """Nothing goes in or out, as when the cable is pulled."""
        await run("ip", "link", "set", f"{self.name}h", "down")

    async def mend(self) -> None:
        await run("ip", "link", "set", f"{self.name}h", "up")

    async def remove(self) -> None:
        if self.engine is not None and self.engine.returncode is None:
            with contextlib.suppress(AssertionError):
                ids = (await self.docker("ps", "-aq")).split()
                if ids:
                    await self.docker("rm", "-f", *ids)
            self.engine.send_signal(signal.SIGTERM)
            await self.engine.wait()
        with contextlib.suppress(AssertionError):
            await run("ip", "netns", "del", self.name)
        # An engine that was killed leaves some behind.
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((m for m in mounted if m.startswith(f"{self.folder}/")), reverse=True):
            await run("umount", "--lazy", point)
        shutil.rmtree(self.folder, ignore_errors=True)
