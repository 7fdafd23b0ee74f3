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
from agent.journal import write_durably
from agent.launch import Host
from agent.node import Identity, Node
from agent.nodes import DeclaredNode, read_nodes
from agent.settings import AgentSettings
from shared.bus import Bus, open_bus
from shared.ids import new_id
from shared.metrics import serve_metrics

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class Agent:
    """A machine's nodes over one engine: the hardware's own, else those declared in nodes.toml.
    Beside them, where there are recipes, the builder of images: without a node too."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        engine: Engine | None = None,
        images: ImageEngine | None = None,
    ) -> None:
        self._settings = settings
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
        machine = read_machine()
        docker = DockerImages(settings.docker_host)
        engine = self._given_engine or docker
        images = self._given_images or docker
        bus = open_bus(settings.bus_url)
        try:
            self.nodes = await asyncio.to_thread(build_nodes, settings, machine, engine, bus)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_images(images, bus))
                tasks.create_task(self._keep_nodes(engine))
        finally:
            await engine.close()
            await docker.close()
            if stop_metrics is not None:
                stop_metrics()

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
        settings = self._settings
        machine_id = await asyncio.to_thread(_kept_id, settings.state_dir / "machine.id")
        clearing = Clearing(images, f"agent.{machine_id}.images")
        await bus.subscribe(clearing.subscription)
        try:
            if settings.recipes is not None:
                await Builder(workshop_of(settings, images, settings.recipes), bus).run()
            await asyncio.Event().wait()
        finally:
            await bus.unsubscribe(clearing.queue)

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


def build_nodes(settings: AgentSettings, machine: Machine, engine: Engine, bus: Bus) -> list[Node]:
    """Blocking. Raises NodesFileError."""
    if has_gpus():
        doors = Doors(
            settings.address, settings.app_address, settings.port_first, settings.port_last
        )
        name = socket.gethostname()
        identity = Identity(_node_id(settings.state_dir, name), name, settings.region, False)
        read = partial(real_inventory, machine, doors, settings.state_dir)
        host = _host(settings, machine, identity)
        return [Node(identity, host, machine, read, engine=engine, bus=bus, settings=settings)]
    declared = read_nodes(settings.nodes_file) if settings.nodes_file is not None else []
    shares = split_ports(settings.port_first, settings.port_last, len(declared))
    return [
        _declared_node(settings, machine, engine, bus, node, ports)
        for node, ports in zip(declared, shares, strict=True)
    ]


def _declared_node(
    settings: AgentSettings,
    machine: Machine,
    engine: Engine,
    bus: Bus,
    node: DeclaredNode,
    ports: tuple[int, int],
) -> Node:
    node_id = _node_id(settings.state_dir, node.name)
    identity = Identity(node_id, node.name, node.region, node.simulated)
    doors = Doors(settings.address, settings.app_address, *ports)
    read = partial(simulated_inventory, node, node_id, machine, doors, settings.state_dir)
    host = _host(settings, machine, identity)
    return Node(identity, host, machine, read, engine=engine, bus=bus, settings=settings)


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
