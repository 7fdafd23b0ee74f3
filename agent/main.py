"""The agent's composition root: settings in, a running daemon out."""

import asyncio
import contextlib
import socket
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog

from agent import firewall, neighbours
from agent.building import Builder, workshop_of
from agent.clearing import Clearing
from agent.credential import Credential, CredentialUnreadable, bus_url_of, trust_registry
from agent.engine import Engine, EngineRefused, EngineUnavailable
from agent.imaging import DockerImages, ImageEngine
from agent.inventory import (
    Doors,
    Machine,
    has_gpus,
    read_machine,
    real_inventory,
    simulated_inventory,
    split_ports,
)
from agent.joining import JoinError, enter, read_token
from agent.journal import write_durably
from agent.launch import Host
from agent.node import Identity, Node
from agent.nodes import DeclaredNode, NodesFileError, one_of, read_nodes
from agent.settings import AgentSettings
from shared.bus import Bus, Keeping, MemoryBus, Subscription, open_bus
from shared.events.agent import ImagesWanted
from shared.events.envelope import Envelope
from shared.ids import new_id
from shared.metrics import serve_metrics

log = structlog.get_logger(__name__)

RETRY_S = 1.0
ALONE = "agent"
CANNOT_RUN = (JoinError, CredentialUnreadable, NodesFileError)


async def run_as_node(settings: AgentSettings) -> None:
    """What a GPU host runs: joins where it must, then is that node until cancelled. Raises
    one of CANNOT_RUN."""
    token = read_token(settings.join.get_secret_value()) if settings.join is not None else None
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    declared = await asyncio.to_thread(_declared, settings)
    chosen = one_of(declared, settings.node) if declared else None
    credential = await enter(
        settings.state_dir,
        token,
        agent_id=await asyncio.to_thread(_kept_id, settings.state_dir / "agent.id"),
        name=_name(settings, chosen),
        region=_region(settings, chosen),
    )
    if credential is None and settings.bus_url.startswith("memory:"):
        raise JoinError(
            "this host has joined no platform: an operator makes an invitation"
            " (chusuan nodes invite), then run chusuan agent --join TOKEN here"
        )
    await Agent(settings, credential=credential).run()


class Agent:
    """A machine's nodes over one engine: the hardware's own, else those declared in nodes.toml.
    Beside them, where there are recipes, the builder of images: without a node too.

    credential: of the one node that this process is then, with its own login at bus and registry.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        credential: Credential | None = None,
        engine: Engine | None = None,
        images: ImageEngine | None = None,
    ) -> None:
        self._settings = settings
        self._credential = credential
        self._given_engine = engine
        self._given_images = images
        self.nodes: list[Node] = []

    async def run(self) -> None:
        """Until cancelled. Containers keep running."""
        settings = self._settings
        for folder in (settings.state_dir, settings.run_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stop_metrics = (
            serve_metrics(f"127.0.0.1:{settings.metrics_port}") if settings.metrics_port else None
        )
        machine, credential = read_machine(), self._credential
        docker = DockerImages(settings.docker_host, credential.access if credential else None)
        engine = self._given_engine or docker
        images = self._given_images or docker
        bus = open_bus(await asyncio.to_thread(self._bus_url))
        try:
            self.nodes = await asyncio.to_thread(
                build_nodes, settings, machine, engine, bus, credential
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_images(images, bus))
                tasks.create_task(self._keep_nodes(engine))
        finally:
            await engine.close()
            await docker.close()
            if stop_metrics is not None:
                stop_metrics()
            if not isinstance(bus, MemoryBus):
                # That one is of the whole process.
                await bus.close()

    def _bus_url(self) -> str:
        """Blocking: puts down whom to trust there, and at the registry."""
        settings, credential = self._settings, self._credential
        if credential is None:
            return settings.bus_url
        try:
            trust_registry(credential, settings.docker_certs)
        except OSError as error:
            log.warning(
                "registry_ca_not_written", error=str(error), cure="run the agent as root, or put"
                f" the CA into {settings.docker_certs}/{credential.registry_address} yourself",
            )  # fmt: skip
        return bus_url_of(credential, settings.state_dir)

    async def _keep_nodes(self, engine: Engine) -> None:
        if not self.nodes:
            log.warning("no_node", cure="no GPU was found and nodes.toml declares none")
            return
        await self._prepare_network(engine)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(engine))
            for node in self.nodes:
                tasks.create_task(node.run())

    async def _keep_images(self, images: ImageEngine, bus: Bus) -> None:
        """One queue serves both duties: to drop what is deleted, and to build."""
        settings, credential = self._settings, self._credential
        owner = (
            credential.node_id
            if credential is not None
            else await asyncio.to_thread(_kept_id, settings.state_dir / "machine.id")
        )
        registry = credential.registry_address if credential is not None else ""
        clearing = Clearing(images, registry)
        builder = None
        if settings.recipes is not None:
            workshop = workshop_of(settings, images, settings.recipes, registry)
            builder = Builder(workshop, bus, credential.source if credential else ALONE)

        async def take(envelope: Envelope) -> None:
            wanted = ImagesWanted.model_validate(envelope.data)
            if builder is not None:
                builder.take(wanted)
            await clearing.take(wanted)

        queue = f"agent.{owner}.images"
        subscription = Subscription(queue, (ImagesWanted.type,), take, keeping=Keeping.states)
        await bus.subscribe(subscription)
        try:
            if builder is not None:
                await builder.run()
            await asyncio.Event().wait()
        finally:
            await bus.unsubscribe(queue)

    async def _prepare_network(self, engine: Engine) -> None:
        """Before any container; again after each restart of the engine, which may drop rules."""
        settings = self._settings
        while True:
            try:
                await engine.ensure_network(settings.network, settings.bridge)
                break
            except (EngineUnavailable, EngineRefused) as error:
                log.warning("network_failed", error=str(error))
                await asyncio.sleep(RETRY_S)
        await asyncio.to_thread(neighbours.ask_quickly, settings.bridge)
        if settings.firewall:
            await firewall.apply(settings.bridge, deny_private_egress=settings.deny_private_egress)

    async def _watch(self, engine: Engine) -> None:
        by_id = {node.identity.node_id: node for node in self.nodes}
        while True:
            with contextlib.suppress(EngineUnavailable, EngineRefused):
                async for change in engine.changes():
                    if change.node_id in by_id:
                        by_id[change.node_id].happened(change.instance_id, change.action)
            log.warning("engine_events_ended")
            await asyncio.sleep(RETRY_S)
            await self._prepare_network(engine)
            for node in self.nodes:
                node.look_around()


def build_nodes(
    settings: AgentSettings,
    machine: Machine,
    engine: Engine,
    bus: Bus,
    credential: Credential | None = None,
) -> list[Node]:
    """credential: exactly one node, named by it. Blocking. Raises NodesFileError."""
    registry = credential.registry_address if credential is not None else ""
    make = partial(Node, engine=engine, bus=bus, settings=settings, registry=registry)
    declared = _declared(settings)
    if credential is not None and declared:
        declared = [one_of(declared, settings.node)]
    if not declared and has_gpus():
        doors = Doors(
            settings.address, settings.app_address, settings.port_first, settings.port_last
        )
        name = _name(settings, None)
        node_id = credential.node_id if credential else _node_id(settings.state_dir, name)
        identity = Identity(node_id, name, settings.region, False)
        read = partial(real_inventory, machine, doors, settings.state_dir)
        return [make(identity, _host(settings, machine, identity), machine, read)]
    nodes = []
    shares = split_ports(settings.port_first, settings.port_last, len(declared))
    for node, ports in zip(declared, shares, strict=True):
        node_id = credential.node_id if credential else _node_id(settings.state_dir, node.name)
        name, region = node.name, node.region
        if credential is not None:
            name, region = _name(settings, node), _region(settings, node)
        identity = Identity(node_id, name, region, node.simulated)
        doors = Doors(settings.address, settings.app_address, *ports)
        read = partial(simulated_inventory, node, node_id, machine, doors, settings.state_dir)
        nodes.append(make(identity, _host(settings, machine, identity), machine, read))
    return nodes


def _declared(settings: AgentSettings) -> list[DeclaredNode]:
    """Hardware goes before what is declared. Raises NodesFileError."""
    if settings.nodes_file is None or has_gpus():
        return []
    return read_nodes(settings.nodes_file)


def _name(settings: AgentSettings, declared: DeclaredNode | None) -> str:
    return settings.name or (declared.name if declared is not None else socket.gethostname())


def _region(settings: AgentSettings, declared: DeclaredNode | None) -> str:
    """Said for this agent, it counts more than what a file says for many."""
    is_said = "region" in settings.model_fields_set
    return settings.region if declared is None or is_said else declared.region


def _host(settings: AgentSettings, machine: Machine, identity: Identity) -> Host:
    return Host(
        node_id=identity.node_id,
        simulated=identity.simulated,
        cpus=machine.cpus,
        memory_bytes=machine.memory_bytes,
        network=settings.network,
        publish_address=settings.publish_address,
        app_publish_address=settings.app_publish_address,
        state_dir=settings.state_dir.resolve(),
        run_dir=settings.run_dir.resolve(),
        netdisk_root=settings.netdisk_root.resolve(),
    )


def _node_id(state_dir: Path, name: str) -> UUID:
    return _kept_id(state_dir / "nodes" / f"{name}.id")


def _kept_id(path: Path) -> UUID:
    """The same over all restarts, for a path."""
    with contextlib.suppress(FileNotFoundError):
        return UUID(path.read_text().strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    made = new_id()
    write_durably(path, str(made).encode())
    return made
