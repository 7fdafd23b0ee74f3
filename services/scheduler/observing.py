"""A node's report is taken: inventory first, then what it means for each instance."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.applying import apply_outcome, resume_of, standing_of
from services.scheduler.domain.node_states import NodeState
from services.scheduler.domain.observation import Seen, SeenSave, SeenState, observe
from services.scheduler.domain.states import State, active_state
from services.scheduler.heartbeats import Heartbeats
from services.scheduler.models import Instance, Node
from services.scheduler.moving import move_node
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.telling import tell_node
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.events.agent import NodeReported, ObservedInstance, ObservedState
from shared.events.scheduler import UsageProven
from shared.outbox import emit
from shared.telemetry import continued

log = structlog.get_logger(__name__)

# What every report says anew, and nobody is told.
_PASSING = frozenset({"boot_id", "sequence", "reported_at", "disk_free_bytes"})
MOST_LABELS, MOST_LETTERS = 32, 100


async def take_report(tools: Tools, heartbeats: Heartbeats, report: NodeReported) -> None:
    """Safe to repeat; an older report of the same boot is refused. One instance that cannot be
    moved does not hold up its neighbours: the next report says it again.

    One that says what the last one said is a heartbeat, and costs a row of a statement; every
    `usage_proof_s` it is looked at whole all the same, since rows may have changed meanwhile."""
    digest = digest_of(report)
    if await heartbeats.note(report, digest):
        return
    async with heartbeats.look() as may:
        if may:
            await _look(tools, report, digest)
        else:
            log.debug("report_passed_over", node_id=str(report.node_id))


async def _look(tools: Tools, report: NodeReported, digest: str) -> None:
    async with tools.database.transaction() as session:
        noted = await _note_node(session, tools, report)
        if noted is None:
            return
        node, counts_from = noted
        known = {i.id: i for i in await rows.looked_at(session, report.node_id)}
        held = await host.holders(session, report.node_id)
        seen = {o.instance_id: to_seen(o) for o in report.instances if o.instance_id in known}
        await _prove_usage(session, tools, node, report, known, seen)
        meant = [
            (instance_id, what)
            for instance_id, what in seen.items()
            if observe(
                standing_of(known[instance_id], holds_gpus=instance_id in held),
                what,
                counts_from,
            )
        ]
        node.digest = "" if meant else digest
        if follows(known.values(), seen):
            tools.signals.followed(session, node.id)
        else:
            tools.signals.fell_behind(session, node.id)
    for instance_id, what in meant:
        try:
            with continued("scheduler", "hear of instance", known[instance_id].traceparent):
                await _apply_report(tools, node.id, instance_id, what, counts_from)
        except Exception:
            log.exception("report_not_applied", instance_id=str(instance_id))


def follows(known: Iterable[Instance], seen: Mapping[UUID, Seen]) -> bool:
    """Does the node act on what was ordered last?"""
    return all(
        (what := seen.get(instance.id)) is not None and what.generation >= instance.generation
        for instance in known
    )


def digest_of(report: NodeReported) -> str:
    """Of all that matters, but the time."""
    words = report.model_dump_json(
        exclude={"sequence": True, "reported_at": True, "inventory": {"disk_free_bytes"}}
    )
    return hashlib.sha256(words.encode()).hexdigest()


async def _note_node(
    session: AsyncSession, tools: Tools, report: NodeReported
) -> tuple[Node, datetime] | None:
    """The node with its lock, and from when on the report counts; None for a report that is older
    than what is known, or whose node's credential was taken back."""
    now = utc_now()
    node = await host.find_node(session, report.node_id, lock=True)
    if node is None:
        await host.upsert_node(session, _node_values(report, None) | _first_values(report))
        node = await host.find_node(session, report.node_id, lock=True)
        if node is None:
            raise LookupError(f"node {report.node_id} is neither there nor made")
    elif node.revoked or node.state == NodeState.removed or not _is_newer(node, report):
        return None
    returned = node.state != NodeState.online
    counts_from = _counts_from(node, report, now)
    await _note_running(session, node, report)
    changed = returned or node.told is None
    for name, value in _node_values(report, node).items():
        if getattr(node, name) != value:
            setattr(node, name, value)
            changed = changed or name not in _PASSING
    if returned:
        move_node(node, NodeState.online)
    node.heard_at = now
    if await _note_devices(session, report) or changed:
        await tell_node(session, node)
    if returned:
        tools.signals.order_changed(session, node.id)
        tools.signals.capacity_returned(session)
    return node, counts_from


def _counts_from(node: Node, report: NodeReported, now: datetime) -> datetime:
    """By the agent's clock. What was stuck on its way until a lost node came back was made before,
    and would have the gap billed: it counts from when it should have been made to arrive now."""
    if node.state != NodeState.lost:
        return report.reported_at
    return max(report.reported_at, min(node.reported_at + (now - node.heard_at), now))


async def _note_running(session: AsyncSession, node: Node, report: NodeReported) -> None:
    """Of what this report shows running no more, the one before was the last proof."""
    running = sorted(o.start_token for o in report.instances if o.state is ObservedState.running)
    if running == node.running:
        return
    gone = set(node.running).difference(running)
    await rows.note_seen_running(session, node.id, gone, node.reported_at)
    node.running = running


def _is_newer(node: Node, report: NodeReported) -> bool:
    if report.boot_id == node.boot_id:
        return report.sequence > node.sequence
    return report.reported_at > node.reported_at


def _node_values(report: NodeReported, node: Node | None) -> dict[str, object]:
    found = report.inventory
    return {
        "name": (node.given_name if node is not None else None) or report.name,
        "region": (node.given_region if node is not None else None) or report.region,
        "simulated": report.simulated,
        "labels": _labels(report),
        "boot_id": report.boot_id,
        "sequence": report.sequence,
        "reported_at": report.reported_at,
        "cpu_model": found.cpu_model,
        "cpu_cores": found.cpu_cores,
        "memory_bytes": found.memory_bytes,
        "disk_bytes": found.disk_bytes,
        "disk_free_bytes": found.disk_free_bytes,
        "driver_version": found.driver_version,
        "max_cuda": found.max_cuda,
        "tflops": found.tflops,
        "address": found.address,
        "app_address": found.app_address,
        "port_first": found.port_first,
        "port_last": found.port_last,
    }


def _labels(report: NodeReported) -> dict[str, str]:
    """Shown to people, so bounded and printable."""
    fit = ((k, v) for k, v in report.labels.items() if k.isprintable() and v.isprintable())
    return {k[:MOST_LETTERS]: v[:MOST_LETTERS] for k, v in islice(fit, MOST_LABELS)}


def _first_values(report: NodeReported) -> dict[str, object]:
    now = utc_now()
    return {
        "id": report.node_id,
        "state": "online",
        "heard_at": now,
        "created_at": now,
        "next_port": report.inventory.port_first,
        "version": 0,
        "revoked": False,
        "draining": False,
        "digest": "",
        "running": [],
    }


async def _note_devices(session: AsyncSession, report: NodeReported) -> bool:
    """Written only when the inventory differs. True: it did."""
    found = [
        {
            "uuid": g.uuid,
            "index": g.index,
            "model": g.model,
            "memory_mib": g.memory_mib,
            "healthy": g.healthy,
        }
        for g in report.inventory.gpus
    ]
    known = await host.inventory(session, report.node_id)
    if {tuple(device.values()) for device in found} == known:
        return False
    await host.write_devices(session, report.node_id, found)
    return True


async def _prove_usage(
    session: AsyncSession,
    tools: Tools,
    node: Node,
    report: NodeReported,
    known: dict[UUID, Instance],
    seen: dict[UUID, Seen],
) -> None:
    """Only what this very report shows running was running until it was made."""
    due = timedelta(seconds=tools.settings.usage_proof_s)
    if node.usage_proven_at is not None and report.reported_at - node.usage_proven_at < due:
        return
    proven = [
        instance.authorisation_id
        for instance_id, instance in known.items()
        if instance.authorisation_id is not None
        and (what := seen.get(instance_id)) is not None
        and what.state is SeenState.running
        and what.start_token == instance.start_token
        and active_state(State(instance.state), resume_of(instance)) is State.running
    ]
    node.usage_proven_at = report.reported_at
    if proven:
        payload = UsageProven(node_id=node.id, until=report.reported_at, authorisations=proven)
        await emit(session, payload, subject=node.id, sequence=node.version)


async def _apply_report(
    tools: Tools, node_id: UUID, instance_id: UUID, seen: Seen, counts_from: datetime
) -> None:
    async with tools.database.transaction() as session:
        node = await host.find_node(session, node_id, lock=True)
        if node is None:
            return
        instance = await rows.get_instance(session, instance_id, owner_id=None, lock=True)
        held = await host.devices_of(session, [instance_id])
        standing = standing_of(instance, holds_gpus=instance_id in held)
        outcome = observe(standing, seen, counts_from)
        if outcome is not None:
            await apply_outcome(session, tools, node, instance, outcome)


def to_seen(observed: ObservedInstance) -> Seen:
    save = observed.save
    return Seen(
        generation=observed.generation,
        start_token=observed.start_token,
        state=SeenState(observed.state.value),
        started_at=observed.started_at,
        finished_at=observed.finished_at,
        end_reason=observed.end_reason.value if observed.end_reason else None,
        exit_code=observed.exit_code,
        progress=observed.progress,
        message=observed.message,
        save=SeenSave(save.image_id, save.state, save.digest, save.size_bytes, save.message)
        if save is not None
        else None,
    )
