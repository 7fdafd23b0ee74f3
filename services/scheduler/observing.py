"""A node's report is taken: inventory first, then what it means for each instance."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.domain.observation import (
    Outcome,
    Seen,
    SeenSave,
    SeenState,
    Standing,
    observe,
)
from services.scheduler.domain.states import State, active_state
from services.scheduler.models import Instance, Node
from services.scheduler.placing import return_gpus
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.stopping import tell_release, tell_save_failed
from services.scheduler.telling import tell_node
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.events.agent import NodeReported, ObservedInstance
from shared.events.scheduler import InstanceSaved, InstanceStarted, UsageProven
from shared.ids import new_id
from shared.outbox import emit
from shared.telemetry import continued

log = structlog.get_logger(__name__)


async def take_report(tools: Tools, report: NodeReported) -> None:
    """Safe to repeat; an older report of the same boot is refused. One instance that cannot be
    moved does not hold up its neighbours: the next report says it again."""
    async with tools.database.transaction() as session:
        node = await _note_node(session, tools, report)
        if node is None:
            return
        known = {i.id: i for i in await rows.on_node(session, report.node_id)}
        held = await host.devices_of(session, known.keys())
        seen = {o.instance_id: to_seen(o) for o in report.instances if o.instance_id in known}
        await _prove_usage(session, tools, node, report, known, seen)
    for instance_id, what in seen.items():
        standing = standing_of(known[instance_id], holds_gpus=instance_id in held)
        if observe(standing, what, report.reported_at) is None:
            continue
        try:
            with continued("scheduler", "hear of instance", known[instance_id].traceparent):
                await _apply_report(tools, report, instance_id, what)
        except Exception:
            log.exception("report_not_applied", instance_id=str(instance_id))


async def _note_node(session: AsyncSession, tools: Tools, report: NodeReported) -> Node | None:
    """The node with its lock; None for a report that is older than what is known, or whose node's
    credential was taken back."""
    now = utc_now()
    node = await host.find_node(session, report.node_id, lock=True)
    if node is None:
        await host.upsert_node(session, _node_values(report, None) | _first_values(report))
        node = await host.find_node(session, report.node_id, lock=True)
        if node is None:
            raise LookupError(f"node {report.node_id} is neither there nor made")
    elif node.revoked or not _is_newer(node, report):
        return None
    returned = node.state != "online"
    for name, value in _node_values(report, node).items():
        if getattr(node, name) != value:
            setattr(node, name, value)
    node.state, node.heard_at = "online", now
    await _note_devices(session, report)
    await tell_node(session, node)
    if returned:
        tools.signals.order_changed(session, node.id)
        tools.signals.capacity_returned(session)
    return node


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
    }


async def _note_devices(session: AsyncSession, report: NodeReported) -> None:
    """Written only when the inventory differs: most reports are heartbeats."""
    known = {
        (g.uuid, g.index, g.model, g.memory_mib, g.healthy)
        for g in await host.devices(session, report.node_id)
        if g.present
    }
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
    if {tuple(device.values()) for device in found} != known:
        await host.write_devices(session, report.node_id, found)


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
        and active_state(State(instance.state), _resume(instance)) is State.running
    ]
    if proven:
        node.usage_proven_at = report.reported_at
        payload = UsageProven(node_id=node.id, until=report.reported_at, authorisations=proven)
        await emit(session, payload, subject=node.id, sequence=node.version)


async def _apply_report(tools: Tools, report: NodeReported, instance_id: UUID, seen: Seen) -> None:
    async with tools.database.transaction() as session:
        node = await host.find_node(session, report.node_id, lock=True)
        if node is None:
            return
        instance = await rows.get_instance(session, instance_id, owner_id=None, lock=True)
        held = await host.devices_of(session, [instance_id])
        standing = standing_of(instance, holds_gpus=instance_id in held)
        outcome = observe(standing, seen, report.reported_at)
        if outcome is not None:
            await _apply(session, tools, node, instance, outcome)


async def _apply(
    session: AsyncSession, tools: Tools, node: Node, instance: Instance, outcome: Outcome
) -> None:
    now = utc_now()
    if not outcome.moved and not outcome.returns_gpus:
        await rows.change(
            session, instance, progress=outcome.progress, progress_mark=outcome.progress_mark,
            progress_at=now, status_reason=moving.words(outcome.reason),
        )  # fmt: skip
        return
    if outcome.moved:
        await _tell_run(session, instance, outcome)
        await _tell_save(session, instance, outcome)
        await moving.move(
            session, tools.signals, instance, outcome.state,
            cause="report", now=now, reason=outcome.reason, reorders=outcome.reorders,
            **_changes(instance, outcome, now),
        )  # fmt: skip
        log.info(
            "instance_moved", instance_id=str(instance.id), state=outcome.state.value,
            reason=instance.stop_reason,
        )  # fmt: skip
    if outcome.returns_gpus:
        await return_gpus(session, tools.signals, node, instance.id)
    if outcome.state is State.released:
        await tell_release(session, instance)


def _changes(instance: Instance, outcome: Outcome, now: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "resume": outcome.resume.value if outcome.resume is not None else None,
        "progress": outcome.progress,
        "progress_mark": outcome.progress_mark,
        "progress_at": now,
    }
    if outcome.told_start is not None:
        changes["started_at"] = outcome.told_start
    if outcome.told_stop is not None or outcome.abandoned:
        changes["authorisation_id"] = None
        changes["stopped_at"] = outcome.told_stop or now
    if outcome.stop_reason is not None:
        changes["stop_reason"] = outcome.stop_reason.value
    if outcome.state is not State.saving:
        changes |= {"save_image_id": None, "save_reference": None}
    if outcome.state is State.released:
        changes["released_at"] = now
    if outcome.restarts:
        changes |= {
            "authorisation_id": instance.next_authorisation_id,
            "price_per_hour": instance.next_price_per_hour,
            "next_authorisation_id": None,
            "next_price_per_hour": None,
            "start_token": new_id(),
            "start_ordered_at": now,
            "started_at": None,
            "stopped_at": None,
            "stop_reason": None,
        }
    return changes


async def _tell_run(session: AsyncSession, instance: Instance, outcome: Outcome) -> None:
    """Billing's facts, each once: the authorisation is forgotten with the last of them."""
    authorisation_id = instance.authorisation_id
    if authorisation_id is None:
        return
    if outcome.told_start is not None:
        payload = InstanceStarted.model_validate(
            {
                "instance_id": instance.id,
                "account_id": instance.account_id,
                "authorisation_id": authorisation_id,
                "mode": instance.mode,
                "started_at": outcome.told_start,
            }
        )
        await emit(session, payload, subject=instance.id, sequence=instance.version)
    if outcome.told_stop is not None:
        reason = outcome.stop_reason.value if outcome.stop_reason else instance.stop_reason
        await moving.tell_stop(
            session, instance, authorisation_id, outcome.told_stop, reason or "user"
        )
    elif outcome.abandoned:
        await moving.abandon_start(
            session,
            instance_id=instance.id,
            account_id=instance.account_id,
            authorisation_id=authorisation_id,
            reason=outcome.reason.en if outcome.reason else instance.stop_reason or "user",
        )


async def _tell_save(session: AsyncSession, instance: Instance, outcome: Outcome) -> None:
    save = outcome.save_ended
    if save is None:
        return
    if save.state == "failed":
        return await tell_save_failed(session, instance, save.message)
    payload = InstanceSaved(
        instance_id=instance.id,
        image_id=save.image_id,
        digest=save.digest,
        size_bytes=save.size_bytes,
    )
    await emit(session, payload, subject=instance.id, sequence=instance.version)


def _resume(instance: Instance) -> State | None:
    return State(instance.resume) if instance.resume is not None else None


def standing_of(instance: Instance, *, holds_gpus: bool) -> Standing:
    return Standing(
        state=State(instance.state),
        resume=_resume(instance),
        mode=instance.mode,
        generation=instance.generation,
        start_token=instance.start_token,
        authorised=instance.authorisation_id is not None,
        holds_gpus=holds_gpus,
        restarts=instance.next_authorisation_id is not None,
        started_at=instance.started_at,
        releasing_at=instance.releasing_at,
        stop_reason=instance.stop_reason,
        save_image_id=instance.save_image_id,
        progress_mark=instance.progress_mark,
    )


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
