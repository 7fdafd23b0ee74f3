"""The split shape on one machine: every service a process, real PostgreSQL, RabbitMQ, Redis and OCI
registry behind nginx, and three agents, each in a network namespace of its own with a Docker Engine
of its own. Agents reach the broker, the registry and the gateway, and nothing else.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.up.docker import engine_answers
from cli.up.home import SERVICES
from cli.up.postgres import Postgres
from tests.broker import Broker
from tests.e2e import hosts, stores
from tests.e2e.hosts import Host, Network
from tests.e2e.people import log_in, run
from tests.e2e.platform import REPOSITORY, RunningPlatform, free_port
from tests.e2e.stores import Daemon

HOSTS = 3
STOPS_S = 15
NODE = """\
[[node]]
name = "{name}"
region = "wuhan-1"
simulated = true
gpu_model = "{model}"
gpu_count = {count}
gpu_memory_mib = 24564
driver_version = "570.124"
max_cuda = "12.8"
tflops = 82.6
cpu_cores = 64
memory_gib = 256
disk_gib = 4000
"""
MODELS = (("GeForce RTX 4090", 8), ("GeForce RTX 4090", 4), ("A100 SXM4", 4))


def impossible() -> str:
    """Why it cannot run here, or nothing."""
    if not engine_answers():
        return "no Docker Engine answers: `make test` as root starts one"
    return hosts.possible() or stores.missing_programs()


@dataclass
class Process:
    """One of ours: it may be killed and started again."""

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
        return (self.logs / f"{self.name}.log").read_text(errors="replace")


@dataclass
class SplitPlatform(RunningPlatform):
    network: Network = field(default_factory=lambda: Network(random.randrange(2, 250)))
    hosts: list[Host] = field(default_factory=list)
    parts: dict[str, Process] = field(default_factory=dict)
    broker: Broker = field(init=False)
    postgres: Postgres = field(init=False)
    redis: Daemon = field(init=False)
    registry: Daemon = field(init=False)
    edge: Daemon = field(init=False)
    _ports: dict[str, int] = field(default_factory=dict)
    _made: bool = False

    async def start(self) -> None:
        if not self._made:
            await self._make()
            self._made = True
        for name in (*SERVICES, "gateway"):
            await self.parts[name].start()
        await self.wait_until_ready()
        if not self.hosts:
            await self._invite()
        for host in self.hosts:
            await self.parts[f"agent-{host.number}"].start()

    async def _make(self) -> None:
        """The stores, and what each process is told."""
        await self.network.make()
        address = self.network.address
        for name in ("redis", "oci", "edge", *SERVICES):
            self._ports[name] = free_port()
        self.postgres = Postgres(self.home / "postgres")
        self.broker = Broker(public_address=address)
        self.redis = stores.redis(self.home / "redis", self._ports["redis"])
        inner = f"127.0.0.1:{self._ports['oci']}"
        self.registry = stores.registry(self.home / "registry", inner)
        self.edge = stores.edge(
            self.home / "edge",
            address=self.oci_address,
            registry=inner,
            door=self._url("registry"),
        )
        await asyncio.gather(
            self.postgres.start(), self.broker.start(), self.redis.start(), self.registry.start()
        )
        for service in SERVICES:
            await self.postgres.create_database(service)
        await self.edge.start()
        (self.home / "operator-password").write_text(secrets.token_urlsafe(18))
        (self.home / "logs").mkdir()
        (self.home / "storage").mkdir(mode=0o700)
        self.copy_recipes()
        keys = {name: secrets.token_urlsafe(24) for name in (*SERVICES, "gateway")}
        for service in SERVICES:
            self._add_part(service, self._ports[service], self._environment(service, keys))
        self._add_part("gateway", self.port, self._gateway_environment(keys["gateway"]))

    @property
    def oci_address(self) -> str:
        return f"{self.network.address}:{self._ports['edge']}"

    def _url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._ports[service]}"

    def _add_part(self, name: str, port: int, environment: Mapping[str, str]) -> None:
        # The gateway too is reached by agents.
        listens = "0.0.0.0" if name == "gateway" else "127.0.0.1"  # noqa: S104
        command = (
            sys.executable, "-m", "cli.main", "serve", name, "--host", listens, "--port", str(port),
        )  # fmt: skip
        self.parts[name] = Process(name, command, environment, self.home / "logs")

    def _environment(self, service: str, keys: Mapping[str, str]) -> dict[str, str]:
        first = {
            "DATABASE_URL": self.postgres.url(service),
            "BUS_URL": self.broker.url,
            "REDIS_URL": f"redis://127.0.0.1:{self._ports['redis']}",
            "AUTH_URL": self._url("auth"),
            "SERVICE_SECRET": keys[service],
        }
        told = first | self._own_environment(service, keys)
        return {f"CHUSUAN_{k}": v for k, v in told.items()} | dict(self.environment)

    def _own_environment(self, service: str, keys: Mapping[str, str]) -> dict[str, str]:
        match service:
            case "auth":
                return {
                    "SIGNING_KEY_FILE": str(self.home / "signing-key.pem"),
                    "FIRST_OPERATOR_PASSWORD_FILE": str(self.home / "operator-password"),
                    "SERVICE_SECRETS": json.dumps(dict(keys)),
                    "BROKER_ADMIN_URL": self.broker.admin_url,
                }
            case "storage":
                return {
                    "ROOT": str(self.home / "storage"),
                    "SFTP_ADDRESS": "127.0.0.1",
                    "SFTP_PORT": str(self.sftp_port),
                }
            case "registry":
                return {
                    "RECIPES": str(self.home / "recipes"),
                    "OCI_ADDRESS": self.oci_address,
                    "SCHEDULER_URL": self._url("scheduler"),
                }
            case "scheduler":
                return {
                    "MARKET_URL": self._url("market"),
                    "REGISTRY_URL": self._url("registry"),
                    "BROKER_ADMIN_URL": self.broker.admin_url,
                    "BROKER_PUBLIC_URL": self.broker.public_url,
                    "REGISTRY_PUBLIC_ADDRESS": self.oci_address,
                    "PUBLIC_URL": f"http://{self.network.address}:{self.port}",
                }
            case _:
                return {}

    def _gateway_environment(self, secret: str) -> dict[str, str]:
        return {
            "CHUSUAN_GATEWAY_UPSTREAMS": json.dumps({s: self._url(s) for s in SERVICES}),
            "CHUSUAN_GATEWAY_REDIS_URL": f"redis://127.0.0.1:{self._ports['redis']}",
            "CHUSUAN_GATEWAY_SERVICE_SECRET": secret,
        }

    async def _invite(self) -> None:
        """Hosts come up side by side; the first one also builds: it is given the images."""
        self.hosts = [
            Host(self.network, number, self.home / f"host-{number}")
            for number in range(1, HOSTS + 1)
        ]
        for host in self.hosts:
            await host.make(insecure_registry=self.oci_address)
        await self._give_images(self.hosts[0])
        operator = await log_in(self.url, "admin", self.operator_password)
        for host in self.hosts:
            invitation = await operator.post("/nodes/invitations", {"name": f"host-{host.number}"})
            self._add_agent(host, invitation["token"])
        await operator.http.aclose()

    async def _give_images(self, builder: Host) -> None:
        """Built by this machine's own engine before; a build takes minutes."""
        for recipe in self.recipes:
            packed = self.home / "image.tar"
            await run("docker", "save", "-o", str(packed), f"chusuan/{recipe}:1", timeout_s=300)
            await builder.docker("load", "-i", str(packed))
            await builder.docker(
                "tag", f"chusuan/{recipe}:1", f"{self.oci_address}/chusuan/{recipe}:1"
            )
            packed.unlink()

    def _add_agent(self, host: Host, token: str) -> None:
        model, count = MODELS[host.number - 1]
        declared = host.folder / "nodes.toml"
        declared.write_text(NODE.format(name=f"host-{host.number}", model=model, count=count))
        first, last = self.instance_ports()
        environment = {
            "DOCKER_HOST": host.docker_host,
            "STATE_DIR": str(host.folder / "state"),
            "RUN_DIR": str(host.folder / "run"),
            "NETDISK_ROOT": str(self.home / "storage"),
            "NODES_FILE": str(declared),
            "ADDRESS": host.address,
            "APP_ADDRESS": host.address,
            "PUBLISH_ADDRESS": host.address,
            "APP_PUBLISH_ADDRESS": host.address,
            "PORT_FIRST": str(first),
            "PORT_LAST": str(last),
            "FIREWALL": "true",
        }
        if host.number == 1:
            environment["RECIPES"] = str(self.home / "recipes")
        command = (*host.inside, sys.executable, "-m", "cli.main", "agent", "--join", token)
        self.parts[f"agent-{host.number}"] = Process(
            f"agent-{host.number}",
            command,
            {f"CHUSUAN_AGENT_{k}": v for k, v in environment.items()} | dict(self.environment),
            self.home / "logs",
        )

    def assert_runs(self) -> None:
        for part in self.parts.values():
            assert part.running is None or part.running.returncode is None, part.log()[-4000:]

    def log(self) -> str:
        return "\n".join(f"== {p.name}\n{p.log()[-3000:]}" for p in self.parts.values())

    async def stop(self) -> None:
        await asyncio.gather(*(part.stop() for part in self.parts.values()))

    async def kill(self) -> None:
        await asyncio.gather(*(part.kill() for part in self.parts.values()))

    async def clear(self) -> None:
        await self.stop()
        await asyncio.gather(*(host.remove() for host in self.hosts))
        for daemon in (self.edge, self.registry, self.redis):
            await daemon.kill()
        await self.broker.close()
        await self.postgres.stop()
        await self.network.remove()
        shutil.rmtree(self.home)

    async def docker(self, *words: str) -> str:
        told: Sequence[str] = await asyncio.gather(*(host.docker(*words) for host in self.hosts))
        return "".join(told)
