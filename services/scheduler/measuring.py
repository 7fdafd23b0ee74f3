"""Hosts, GPUs and instances as gauges, and as figures for whoever asks how the platform is."""

from collections.abc import Mapping

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.states import State
from services.scheduler.repository import counts
from shared.clock import utc_now

NODE_STATES = ("online", "draining", "silent", "lost")
# States that must end by themselves.
PASSING = (
    State.queued,
    State.creating,
    State.starting,
    State.stopping,
    State.saving,
    State.releasing,
)

NODES = Gauge("chusuan_scheduler_nodes", "Hosts by state", ("state",))
INSTANCES = Gauge("chusuan_scheduler_instances", "Instances by state", ("state",))
GPUS = Gauge(
    "chusuan_scheduler_gpus", "Devices present: total, free, promised, unhealthy", ("kind",)
)
OLDEST = Gauge(
    "chusuan_scheduler_oldest_seconds",
    "How long the longest instance is in a state that must end by itself; 0: none is",
    ("state",),
)
HEARD = Gauge("chusuan_scheduler_node_heard_seconds", "Since a host's last report", ("node",))
DISK = Gauge("chusuan_scheduler_node_disk_bytes", "Of a host's data disk", ("node", "kind"))


class Measuring:
    """Knows which hosts have gauges, so that a removed one's end."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    async def figures(self, session: AsyncSession) -> Mapping[str, float]:
        hosts = await counts.hosts(session)
        self._note_hosts(hosts)
        by_state = {state: sum(h.state == state for h in hosts) for state in NODE_STATES}
        for state, count in by_state.items():
            NODES.labels(state).set(count)
        instances = await counts.instances(session)
        for state in State:
            INSTANCES.labels(state.value).set(instances.get(state.value, 0))
        devices = await counts.devices(session)
        for kind in ("total", "free", "promised", "unhealthy"):
            GPUS.labels(kind).set(getattr(devices, kind))
        since = await counts.oldest_move(session, PASSING)
        for state in PASSING:
            moved_at = since.get(state.value)
            age_s = (utc_now() - moved_at).total_seconds() if moved_at is not None else 0.0
            OLDEST.labels(state.value).set(max(0.0, age_s))
        return {
            **{f"nodes_{state}": count for state, count in by_state.items()},
            "instances_lost": instances.get(State.lost.value, 0),
            "gpus_total": devices.total,
            "gpus_free": devices.free,
            "gpus_unhealthy": devices.unhealthy,
        }

    def _note_hosts(self, hosts: list[counts.Host]) -> None:
        now = utc_now()
        for host in hosts:
            HEARD.labels(host.name).set(max(0.0, (now - host.heard_at).total_seconds()))
            DISK.labels(host.name, "total").set(host.disk_bytes)
            DISK.labels(host.name, "free").set(host.disk_free_bytes)
        names = {host.name for host in hosts}
        for gone in self._names - names:
            HEARD.remove(gone)
            DISK.remove(gone, "total")
            DISK.remove(gone, "free")
        self._names = names
