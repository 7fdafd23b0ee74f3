"""The split platform under compose, in a project folder of its own: what an operator does to it."""

import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from shared.ids import new_id
from tests.e2e.waiting import until

ROOT = Path(__file__).parents[2]
HEALTHY_WITHIN_S = 180
# Apart from a platform that runs on this machine, and from the engine's own choices.
DATA_NET = "172.29.78"

Json = dict[str, Any]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass(frozen=True)
class Stack:
    """folder: the project. compose: the command, as `docker-compose`."""

    folder: Path
    compose: tuple[str, ...]
    name: str
    https_port: int
    http_port: int
    broker_port: int
    sftp_port: int

    @classmethod
    def prepare(cls, folder: Path, compose: str) -> "Stack":
        """With secrets made, nothing started."""
        shutil.copytree(
            ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets")
        )
        shutil.copy(ROOT / "docker-compose.yml", folder)
        https, http, broker, sftp = free_ports(4)
        name = f"chusuan-test-{new_id().hex[-8:]}"
        stack = cls(folder, tuple(shlex.split(compose)), name, https, http, broker, sftp)
        environment = {
            "COMPOSE_PROJECT_NAME": name,
            "CHUSUAN_BIND": "127.0.0.1",
            "CHUSUAN_HTTPS_PORT": str(https),
            "CHUSUAN_HTTP_PORT": str(http),
            "CHUSUAN_BROKER_PORT": str(broker),
            "CHUSUAN_SFTP_PORT": str(sftp),
            "CHUSUAN_DATA_NET": DATA_NET,
            "CHUSUAN_NETDISK": str(folder / "netdisk"),
            "CHUSUAN_AGENT_STATE": str(folder / "agent"),
            "CHUSUAN_AGENT_RUN": f"/run/{name}",
        }
        stack.init("127.0.0.1", **environment)
        return stack

    def init(self, *words: str, **environment: str) -> None:
        subprocess.run(
            [self.folder / "deploy" / "init", *words],
            check=True,
            env={"PATH": os.environ["PATH"], **environment},
        )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.secret("ca.pem")))

    def secret(self, name: str) -> Path:
        return self.folder / "deploy" / "secrets" / name

    def run(self, *words: str) -> str:
        """One compose command. Raises with its words when it fails."""
        done = subprocess.run(
            [*self.compose, *words], cwd=self.folder, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"compose {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def containers(self, service: str = "") -> list[Json]:
        """As `docker inspect` shows them, those that ended included."""
        filters = ["--filter", f"label=com.docker.compose.project={self.name}"]
        if service:
            filters += ["--filter", f"label=com.docker.compose.service={service}"]
        ids = _docker("ps", "-aq", *filters).split()
        found: list[Json] = json.loads(_docker("inspect", *ids)) if ids else []
        return found

    def kill(self, service: str) -> str:
        """One copy's process dies of itself, as the engine sees it; its container's id. Not
        `docker kill`: what is killed by that stays down."""
        victim = self.containers(service)[0]
        os.kill(victim["State"]["Pid"], signal.SIGKILL)
        return str(victim["Id"])

    def unwell(self, *services: str) -> list[str]:
        """Names of containers, of these services or of all."""
        return [
            container["Name"].lstrip("/")
            for service in services or ("",)
            for container in self.containers(service)
            if not (
                container["State"].get("Health", {}).get("Status") == "healthy"
                or (container["State"]["Status"], container["State"]["ExitCode"]) == ("exited", 0)
            )
        ]

    async def until_well(self, *services: str) -> None:
        async def is_well() -> bool:
            return not self.unwell(*services)

        try:
            await until(is_well, timeout_s=HEALTHY_WITHIN_S, what="every container is healthy")
        except TimeoutError as late:
            logs = "".join(self.log_of(name) for name in self.unwell(*services))
            raise TimeoutError(f"{late}; not well: {self.unwell(*services)}\n{logs}") from None

    def log_of(self, container: str) -> str:
        done = subprocess.run(
            ["docker", "logs", "--tail", "20", container],
            check=False,
            capture_output=True,
            text=True,
        )
        return f"--- {container}\n{done.stdout}{done.stderr}"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, verify=self.trust, trust_env=False, timeout=httpx.Timeout(60)
        )

    def memory(self) -> Iterator[tuple[str, str]]:
        names = [container["Name"].lstrip("/") for container in self.containers()]
        form = "{{.Name}}\t{{.MemUsage}}"
        for line in _docker("stats", "--no-stream", "--format", form, *names).splitlines():
            name, _, used = line.partition("\t")
            yield name.removeprefix(self.name).strip("-_"), used


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout
