"""The split shape on one machine: every service a process, real PostgreSQL, RabbitMQ, Redis and OCI
registry behind nginx, and three agents, each in a network namespace of its own with a Docker Engine
of its own. Agents reach the broker, the registry and the gateway, and nothing else.
"""

import asyncio
import json
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cli.up.docker import engine_answers
from cli.up.home import SERVICES
from cli.up.postgres import Postgres
from tests.broker import Broker
from tests.e2e import hosts, stores
from tests.e2e.hosts import Host, Network
from tests.e2e.people import log_in
from tests.e2e.platform import RunningPlatform, free_port
from tests.e2e.process import Process
from tests.e2e.seed import seed
from tests.e2e.stores import Daemon

HOSTS = 3
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
class SplitPlatform(RunningPlatform):
    network: Network = field(default_factory=Network.free)
    hosts: list[Host] = field(init=False)
    parts: dict[str, Process] = field(default_factory=dict)
    broker: Broker = field(init=False)
    postgres: Postgres = field(init=False)
    redis: Daemon = field(init=False)
    registry: Daemon = field(init=False)
    edge: Daemon = field(init=False)
    _ports: dict[str, int] = field(default_factory=dict)
    _made: bool = False
    _invited: bool = False

    def __post_init__(self) -> None:
        """The stores and the hosts, none of them started."""
        for name in ("redis", "oci", "edge", *SERVICES):
            self._ports[name] = free_port()
        inner = f"127.0.0.1:{self._ports['oci']}"
        self.postgres = Postgres(self.home / "postgres")
        self.broker = Broker(public_address=self.network.address)
        self.redis = stores.redis(self.home / "redis", self._ports["redis"])
        self.registry = stores.registry(self.home / "registry", inner)
        self.edge = stores.edge(
            self.home / "edge",
            address=self.oci_address,
            registry=inner,
            door=self._url("registry"),
        )
        self.hosts = [
            Host(self.network, number, self.home / f"host-{number}")
            for number in range(1, HOSTS + 1)
        ]

    async def start(self) -> None:
        if not self._made:
            await self._make()
            self._made = True
        await asyncio.gather(*(self.parts[name].start() for name in (*SERVICES, "gateway")))
        await self.wait_until_ready()
        if not self._invited:
            await self._invite()
            self._invited = True
        await asyncio.gather(*(self.agent(host).start() for host in self.hosts))

    async def _make(self) -> None:
        """Stores and hosts side by side, and what each process is told."""
        await self.network.make()
        async with asyncio.TaskGroup() as tasks:
            for start in (
                self._start_postgres(), self._start_registry(),
                self.broker.start(), self.redis.start(),
                *(host.make(insecure_registry=self.oci_address) for host in self.hosts),
            ):  # fmt: skip
                tasks.create_task(start)
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
            "BROKER_MANAGEMENT_URL": f"http://127.0.0.1:{self.broker.admin_port}",
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
            case "market":
                return {"SCHEDULER_URL": self._url("scheduler")}
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

    async def _start_postgres(self) -> None:
        await self.postgres.start()
        for service in SERVICES:
            await self.postgres.create_database(service)

    async def _start_registry(self) -> None:
        await seed(self.home / "registry" / "blobs", self.recipes)
        await self.registry.start()
        await self.edge.start()

    async def _invite(self) -> None:
        """The first one also builds, what the registry does not have yet."""
        operator = await log_in(self.url, "admin", self.operator_password)
        for host in self.hosts:
            invitation = await operator.post("/nodes/invitations", {"name": f"host-{host.number}"})
            self._add_agent(host, invitation["token"])
        await operator.http.aclose()

    def _add_agent(self, host: Host, token: str) -> None:
        model, count = MODELS[host.number - 1]
        declared = host.folder / "nodes.toml"
        declared.write_text(NODE.format(name=f"host-{host.number}", model=model, count=count))
        first, last = self.instance_ports
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
            "LABELS": f"rack=r{host.number}",
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

    def agent(self, host: Host) -> Process:
        return self.parts[f"agent-{host.number}"]

    def add_copy(self, service: str) -> Process:
        """A second one beside the first, which the gateway knows alone; not started yet."""
        first = self.parts[service]
        copy = replace(first, name=f"{service}-2", running=None)
        copy.command = (*first.command[:-1], str(free_port()))
        self.parts[copy.name] = copy
        return copy

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
