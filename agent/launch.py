"""How a container is launched: an allowlist. Nothing of what a user gave reaches the engine here
but numbers; their variables and keys go through the run folder. Pure."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import JsonValue

from agent.engine import (
    LABEL_DISK,
    LABEL_GENERATION,
    LABEL_INSTANCE,
    LABEL_NODE,
    LABEL_SPEC,
    LABEL_TOKEN,
    ContainerConfig,
)
from shared.events.agent import DesiredInstance
from shared.ids import short_name

CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
)
PIDS = 16384
SHM_SHARE = 0.5
SSH_PORT, APP_PORT = 22, 8888


@dataclass(frozen=True, slots=True)
class Host:
    """What all launches on this host share. cpus, memory_bytes: of the machine itself, for a
    simulated node may declare more."""

    node_id: UUID
    simulated: bool
    cpus: float
    memory_bytes: int
    network: str
    publish_address: str
    app_publish_address: str
    state_dir: Path
    run_dir: Path
    netdisk_root: Path

    def run_folder(self, instance_id: UUID) -> Path:
        return self.run_dir / "instances" / str(instance_id)

    def data_folder(self, instance_id: UUID) -> Path:
        return self.state_dir / "data" / str(instance_id)

    def volume_folder(self, volume_id: UUID) -> Path:
        return self.netdisk_root / "volumes" / str(volume_id) / "files"

    @property
    def public_folder(self) -> Path:
        return self.netdisk_root / "public"


def spec_hash(order: DesiredInstance, *, simulated: bool) -> str:
    """Of all that is fixed when a container is created; another hash needs another container.
    Simulated cards are only a number, so that a start with other ones keeps the container."""
    gpus: JsonValue = len(order.gpus) if simulated else [*sorted(order.gpus)]
    shape: JsonValue = [
        order.mode,
        order.image,
        gpus if order.mode == "gpu" else None,
        order.cpu_cores,
        order.memory_bytes,
        order.ssh_port,
        order.app_port,
        str(order.volume_id),
    ]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:12]


def disk_repository(instance_id: UUID) -> str:
    return f"chusuan-disk/{instance_id.hex}"


def disk_reference(order: DesiredInstance, disk: int) -> str:
    """The image that carries system disk number `disk`: 0 is the ordered one."""
    return order.image if disk == 0 else f"{disk_repository(order.instance_id)}:{disk}"


def container_name(order: DesiredInstance, spec: str) -> str:
    return f"chusuan-{short_name(order.instance_id)}-{spec}"


def container_config(
    order: DesiredInstance, host: Host, *, spec: str, disk: int
) -> ContainerConfig:
    return {
        "Image": disk_reference(order, disk),
        "Hostname": f"i-{short_name(order.instance_id)}",
        "Env": [*_environment(order, host)],
        "Labels": {
            LABEL_NODE: str(host.node_id),
            LABEL_INSTANCE: str(order.instance_id),
            LABEL_GENERATION: str(order.generation),
            LABEL_TOKEN: str(order.start_token),
            LABEL_SPEC: spec,
            LABEL_DISK: str(disk),
        },
        "ExposedPorts": {port: {} for port in _ports(order, host)},
        "HostConfig": host_config(order, host),
    }


def host_config(order: DesiredInstance, host: Host) -> dict[str, JsonValue]:
    memory = min(order.memory_bytes, host.memory_bytes)
    config: dict[str, JsonValue] = {
        "NetworkMode": host.network,
        "PortBindings": _ports(order, host),
        "Mounts": [
            _mount(host.run_folder(order.instance_id), "/run/chusuan", read_only=True),
            _mount(host.volume_folder(order.volume_id), "/root/netdisk"),
            _mount(host.data_folder(order.instance_id), "/root/data"),
            _mount(host.public_folder, "/root/public", read_only=True),
        ],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [*CAPABILITIES],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "IpcMode": "private",
        "NanoCpus": int(min(order.cpu_cores, host.cpus) * 1e9),
        "Memory": memory,
        "MemorySwap": memory,
        "ShmSize": int(memory * SHM_SHARE),
        "PidsLimit": PIDS,
        "OomScoreAdj": 500,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    }
    if order.mode == "gpu" and not host.simulated:
        config["DeviceRequests"] = [
            {
                "Driver": "nvidia",
                "DeviceIDs": [*order.gpus],
                "Capabilities": [["gpu", "compute", "utility"]],
            }
        ]
    return config


def _environment(order: DesiredInstance, host: Host) -> list[str]:
    """Set in every mode, so that a saved image's own values never win."""
    if order.mode == "gpu" and not host.simulated:
        return [f"NVIDIA_VISIBLE_DEVICES={','.join(order.gpus)}", "CHUSUAN_SIMULATED_GPUS="]
    count = len(order.gpus) if order.mode == "gpu" else ""
    return ["NVIDIA_VISIBLE_DEVICES=void", f"CHUSUAN_SIMULATED_GPUS={count}"]


def _ports(order: DesiredInstance, host: Host) -> dict[str, JsonValue]:
    ports: dict[str, JsonValue] = {
        f"{SSH_PORT}/tcp": [_binding(host.publish_address, order.ssh_port)]
    }
    if order.app_port is not None:
        ports[f"{APP_PORT}/tcp"] = [_binding(host.app_publish_address, order.app_port)]
    return ports


def _binding(address: str, port: int) -> JsonValue:
    return {"HostIp": address, "HostPort": str(port)}


def _mount(source: Path, target: str, *, read_only: bool = False) -> JsonValue:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }
