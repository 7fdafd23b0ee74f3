"""Where an instance's GPUs come from: a snapshot in, a plan or readable refusals out.

`can_take` is the one rule of feasibility; the database's conditional update says the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from shared.text import Text

WHOLE = 1000


@dataclass(frozen=True, slots=True)
class Device:
    """free_milli: what nobody was promised, 0..1000."""

    uuid: str
    index: int
    free_milli: int
    healthy: bool


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """draining: it takes nothing new. waiting: asks that came before this one and wait here."""

    node_id: UUID
    online: bool
    max_cuda: str
    devices: tuple[Device, ...]
    waiting: int = 0
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """milli: of each of `gpu_count` devices. cuda: what the image needs; empty for none."""

    gpu_count: int
    milli: int = WHOLE
    node_id: UUID | None = None
    cuda: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    node_id: UUID
    gpu_uuids: tuple[str, ...]


class Cause(StrEnum):
    offline = "offline"
    draining = "draining"
    image_too_new = "image_too_new"
    too_few = "too_few"  # never, on this host
    taken = "taken"
    queue_ahead = "queue_ahead"


@dataclass(frozen=True, slots=True)
class Refusal:
    node_id: UUID
    cause: Cause
    reason: Text

    @property
    def may_wait(self) -> bool:
        return self.cause in (Cause.taken, Cause.queue_ahead)


def can_take(device: Device, milli: int) -> bool:
    return device.healthy and device.free_milli >= milli


def place(nodes: Sequence[NodeSnapshot], ask: Ask) -> Plan | tuple[Refusal, ...]:
    """Best fit: the host that keeps the least free. Without a plan, one refusal a host asked."""
    asked = [n for n in nodes if ask.node_id in (None, n.node_id)]
    fits: list[tuple[int, UUID, tuple[str, ...]]] = []
    refusals: list[Refusal] = []
    for node in asked:
        refusal = refuse(node, ask)
        if refusal is not None:
            refusals.append(refusal)
            continue
        chosen = _choose(node, ask)
        left = sum(d.free_milli for d in node.devices if d.healthy) - ask.gpu_count * ask.milli
        fits.append((left, node.node_id, tuple(d.uuid for d in chosen)))
    if not fits:
        return tuple(refusals)
    _, node_id, uuids = min(fits, key=lambda fit: (fit[0], str(fit[1])))
    return Plan(node_id, uuids)


def refuse(node: NodeSnapshot, ask: Ask) -> Refusal | None:
    """Why this host cannot take it now; None when it can."""
    if not node.online:
        return Refusal(
            node.node_id,
            Cause.offline,
            Text("主机暂时失联", "The host is not answering at present"),
        )
    if node.draining:
        words = Text(
            "主机将停机维护，不再接受新的开机",
            "The host is being emptied for maintenance and takes no new start",
        )
        return Refusal(node.node_id, Cause.draining, words)
    if not cuda_fits(ask.cuda, node.max_cuda):
        words = Text(
            f"镜像需要 CUDA {ask.cuda}，主机驱动最高支持 {node.max_cuda}",
            f"The image needs CUDA {ask.cuda}; the host's driver supports up to {node.max_cuda}",
        )
        return Refusal(node.node_id, Cause.image_too_new, words)
    if len(node.devices) < ask.gpu_count:
        words = Text(
            f"主机只有 {len(node.devices)} 张 GPU",
            f"The host has {len(node.devices)} GPUs in all",
        )
        return Refusal(node.node_id, Cause.too_few, words)
    free = sum(can_take(d, ask.milli) for d in node.devices)
    if free < ask.gpu_count:
        words = Text(
            f"等待空闲 GPU：需要 {ask.gpu_count} 张，现有 {free} 张空闲",
            f"Waiting for free GPUs: {ask.gpu_count} needed, {free} free now",
        )
        return Refusal(node.node_id, Cause.taken, words)
    if node.waiting:
        words = Text(
            f"前面还有 {node.waiting} 个实例在等待此主机",
            f"{node.waiting} instances are waiting for this host before it",
        )
        return Refusal(node.node_id, Cause.queue_ahead, words)
    return None


def _choose(node: NodeSnapshot, ask: Ask) -> list[Device]:
    """The fullest devices that still fit, so that whole ones stay whole."""
    able = [d for d in node.devices if can_take(d, ask.milli)]
    return sorted(able, key=lambda d: (d.free_milli, d.index))[: ask.gpu_count]


def cuda_fits(needed: str, supported: str) -> bool:
    """An image without CUDA fits everywhere; minor versions count, patch levels do not."""
    wanted = _version(needed)
    return wanted is None or wanted <= (_version(supported) or (0, 0))


def _version(words: str) -> tuple[int, int] | None:
    parts = words.split(".")
    try:
        return int(parts[0]), int(parts[1]) if len(parts) > 1 else 0
    except ValueError:
        return None


def availability(free: int, wanted: int) -> str:
    """plenty, scarce or none: what a stopped instance may expect of its host."""
    if free < wanted:
        return "none"
    return "scarce" if free < 2 * wanted else "plenty"
