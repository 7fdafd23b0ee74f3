"""A real agent on the machine's own Docker Engine, with a scheduler's side of the bus."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncssh
import pytest

from agent.credential import Credential
from agent.main import Agent
from agent.settings import AgentSettings
from shared.bus import Bus, Subscription, open_bus
from shared.clock import utc_now
from shared.events.agent import (
    DesiredInstance,
    NodeDesired,
    NodeReported,
    ObservedInstance,
)
from shared.events.envelope import Envelope
from shared.ids import new_id
from tests.e2e.waiting import until

MINIMAL = "chusuan/minimal:1"
NODES = """
[[node]]
name = "sim-test"
region = "test-1"
simulated = true
gpu_model = "A100"
gpu_count = 2
gpu_memory_mib = 40960
driver_version = "550"
max_cuda = "12.4"
tflops = 19.5
cpu_cores = 64
memory_gib = 512
disk_gib = 100
"""


def docker(*arguments: str) -> str:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def image() -> str:
    if shutil.which("docker") is None:
        pytest.skip("no docker command")
    return built(MINIMAL)


def built(reference: str) -> str:
    """Skips where it is not."""
    name = reference.partition(":")[0].rpartition("/")[2]
    try:
        docker("image", "inspect", reference)
    except subprocess.CalledProcessError:
        pytest.skip(f"no engine or no image: python -m agent.building deploy/images {name}")
    return reference


@dataclass
class Stage:
    """The scheduler's place: gives orders, reads reports, and can end the agent and start it."""

    settings: AgentSettings
    image: str
    bus: Bus
    key: asyncssh.SSHKey
    orders: dict[UUID, DesiredInstance] = field(default_factory=dict)
    reports: list[NodeReported] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    task: asyncio.Task[None] | None = None
    credential: Credential | None = None

    async def heard(self, envelope: Envelope) -> None:
        async with self.news:
            self.reports.append(NodeReported.model_validate(envelope.data))
            self.news.notify_all()

    async def start_agent(self) -> None:
        self.reports.clear()
        self.task = asyncio.create_task(Agent(self.settings, credential=self.credential).run())
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: bool(self.reports))

    async def become(self, credential: Credential) -> None:
        """Again, as the node of that credential."""
        await self.end_agent()
        self.credential = credential
        await self.start_agent()

    async def end_agent(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    def new_order(self, **changes: object) -> DesiredInstance:
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        number = len(self.orders)
        values: dict[str, object] = {
            "instance_id": new_id(),
            "name": "test",
            "generation": 1,
            "start_token": new_id(),
            "want": "running",
            "mode": "gpu",
            "image": self.image,
            "gpus": ["GPU-a"],
            "cpu_cores": 8.0,
            "memory_bytes": 512 << 20,
            "ssh_port": 23800 + 2 * number,
            "app_port": 23801 + 2 * number,
            "env": {"GREETING": "你好 world"},
            "authorized_keys": [self.key.export_public_key().decode().strip()],
            "password_hash": "$6$x$y",
            "app_token": "t",
            "ssh_host_key": host_key.export_private_key().decode(),
            "volume_id": new_id(),
        }
        return DesiredInstance.model_validate({**values, **changes})

    async def tell(self, *orders: DesiredInstance) -> None:
        for order in orders:
            self.orders[order.instance_id] = order
        desired = NodeDesired(
            node_id=self.reports[-1].node_id,
            issued_at=utc_now(),
            instances=list(self.orders.values()),
        )
        await self.bus.publish(Envelope.wrap(desired, subject=desired.node_id))

    def latest(self, instance_id: UUID) -> ObservedInstance | None:
        for observed in self.reports[-1].instances if self.reports else ():
            if observed.instance_id == instance_id:
                return observed
        return None

    async def until(
        self, instance_id: UUID, holds: Callable[[ObservedInstance], bool], timeout: float = 40
    ) -> ObservedInstance:
        def found() -> bool:
            seen = self.latest(instance_id)
            return seen is not None and holds(seen)

        try:
            async with asyncio.timeout(timeout), self.news:
                await self.news.wait_for(found)
        except TimeoutError:
            pytest.fail(f"last seen: {self.latest(instance_id)}")
        observed = self.latest(instance_id)
        assert observed is not None
        return observed

    async def until_state(self, order: DesiredInstance, state: str) -> ObservedInstance:
        return await self.until(
            order.instance_id,
            lambda o: o.state == state and o.start_token == order.start_token,
        )

    async def ssh(self, order: DesiredInstance, command: str) -> str:
        async with asyncssh.connect(
            "127.0.0.1",
            order.ssh_port,
            username="root",
            client_keys=[self.key],
            known_hosts=None,
            config=None,
        ) as connection:
            done = await connection.run(command)
        return str(done.stdout).strip()

    def containers(self, order: DesiredInstance) -> list[str]:
        return docker(
            "ps", "-aq", "--no-trunc", "--filter", f"label=chusuan.instance={order.instance_id}"
        ).split()

    async def clear(self) -> None:
        """No container and no kept disk is left."""
        for order in self.orders.values():
            gone = partial(self._is_gone, order)
            await until(gone, timeout_s=30, what=f"{order.instance_id} has no container")
            reference = f"chusuan-disk/{order.instance_id.hex}"
            for tag in docker("images", "-q", reference).split():
                docker("rmi", "-f", tag)

    async def _is_gone(self, order: DesiredInstance) -> bool:
        """Docker refuses to remove what it is just removing for somebody else."""
        for container in self.containers(order):
            subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)
        return not self.containers(order)


@pytest.fixture
async def stage(image: str) -> AsyncIterator[Stage]:
    home = Path(tempfile.mkdtemp(prefix="chusuan-agent-test-"))
    (home / "nodes.toml").write_text(NODES)
    url = f"memory://{new_id()}"
    settings = AgentSettings(
        bus_url=url,
        state_dir=home / "state",
        run_dir=home / "run",
        netdisk_root=home / "netdisk",
        nodes_file=home / "nodes.toml",
        network="chusuan-test",
        bridge="chusuantest0",
        heartbeat_s=1.0,
        ready_timeout_s=30,
    )
    place = Stage(settings, image, open_bus(url), asyncssh.generate_private_key("ssh-ed25519"))
    await place.bus.subscribe(Subscription("test.reports", ("agent.node.reported",), place.heard))
    await place.start_agent()
    yield place
    await place.end_agent()
    await place.clear()
    shutil.rmtree(home)
