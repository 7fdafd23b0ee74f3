"""What a host has to offer: found by NVML, or declared in nodes.toml and marked as simulated."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

import pynvml
import structlog

from agent.nodes import DeclaredNode
from shared.events.agent import Gpu, Inventory

log = structlog.get_logger(__name__)

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Machine:
    """The host under all of its nodes."""

    cpus: float
    memory_bytes: int
    cpu_model: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a node's containers are reached; the ports are its share, both ends inclusive."""

    address: str
    app_address: str
    port_first: int
    port_last: int


def read_machine() -> Machine:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
            break
    return Machine(
        cpus=float(len(os.sched_getaffinity(0))),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpu_model=model,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    )


def split_ports(first: int, last: int, count: int) -> list[tuple[int, int]]:
    """Equal shares for `count` nodes."""
    size = (last - first + 1) // max(count, 1)
    return [(first + i * size, first + (i + 1) * size - 1) for i in range(count)]


def simulated_inventory(
    node: DeclaredNode, node_id: UUID, machine: Machine, doors: Doors, state_dir: Path
) -> Inventory:
    disk_bytes = node.disk_gib * GIB
    return Inventory(
        gpus=[
            Gpu(
                uuid=f"GPU-{uuid5(node_id, str(index))}",
                index=index,
                model=node.gpu_model,
                memory_mib=node.gpu_memory_mib,
                simulated=True,
            )
            for index in range(node.gpu_count)
        ],
        cpu_model=machine.cpu_model,
        cpu_cores=node.cpu_cores,
        memory_bytes=node.memory_gib * GIB,
        disk_bytes=disk_bytes,
        disk_free_bytes=min(disk_bytes, shutil.disk_usage(state_dir).free),
        driver_version=node.driver_version,
        max_cuda=node.max_cuda,
        tflops=node.tflops,
        address=doors.address,
        app_address=doors.app_address,
        port_first=doors.port_first,
        port_last=doors.port_last,
    )


def has_gpus() -> bool:
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except pynvml.NVMLError:
        return False


def real_inventory(machine: Machine, doors: Doors, state_dir: Path) -> Inventory:
    """Blocking. A device that does not answer is listed as unhealthy by its last known index."""
    cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    disk = shutil.disk_usage(state_dir)
    return Inventory(
        gpus=[_gpu(index) for index in range(int(pynvml.nvmlDeviceGetCount()))],
        cpu_model=machine.cpu_model,
        cpu_cores=machine.cpus,
        memory_bytes=machine.memory_bytes,
        disk_bytes=disk.total,
        disk_free_bytes=disk.free,
        driver_version=_text(pynvml.nvmlSystemGetDriverVersion()),
        max_cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
        address=doors.address,
        app_address=doors.app_address,
        port_first=doors.port_first,
        port_last=doors.port_last,
    )


def _gpu(index: int) -> Gpu:
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            uuid=_text(pynvml.nvmlDeviceGetUUID(device)),
            index=index,
            model=_text(pynvml.nvmlDeviceGetName(device)),
            memory_mib=int(pynvml.nvmlDeviceGetMemoryInfo(device).total) >> 20,
        )
    except pynvml.NVMLError as error:
        log.error("gpu_unhealthy", index=index, error=str(error))
        return Gpu(uuid=f"unknown-{index}", index=index, model="", memory_mib=0, healthy=False)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
