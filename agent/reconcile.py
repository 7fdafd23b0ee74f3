"""What to do about one instance: order, observed containers and journal in, actions out. Pure.

Planning again after the actions, or after a crash in the middle of them, leads on from there;
an empty plan means that it is as ordered, or that nothing more may be done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from agent.engine import ContainerFact
from agent.journal import Entry, Run
from shared.events.agent import DesiredInstance, EndReason, SaveOrder


@dataclass(frozen=True, slots=True)
class Adopt:
    """The journal was lost: this run counts as the one that the order names."""

    container: str
    started_raw: str


@dataclass(frozen=True, slots=True)
class Create:
    disk: int


@dataclass(frozen=True, slots=True)
class Start:
    """container: None for the one just created. before: its `started_raw` now."""

    container: str | None
    before: str


@dataclass(frozen=True, slots=True)
class AwaitReady:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    container: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Stop it, since its lease is over."""

    container: str


@dataclass(frozen=True, slots=True)
class Commit:
    """The stopped container's system disk becomes number `disk`."""

    container: str
    disk: int


@dataclass(frozen=True, slots=True)
class Remove:
    container: str


@dataclass(frozen=True, slots=True)
class Untag:
    disk: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Put back what an interrupted save had blanked."""


@dataclass(frozen=True, slots=True)
class Save:
    container: str | None
    order: SaveOrder


@dataclass(frozen=True, slots=True)
class Push:
    """The saved image is on this host; the registry must have it too. Goes on by itself."""

    order: SaveOrder


@dataclass(frozen=True, slots=True)
class Erase:
    containers: tuple[str, ...]


Action = (
    Adopt
    | Create
    | Start
    | AwaitReady
    | Stop
    | Expire
    | Commit
    | Remove
    | Untag
    | Restore
    | Save
    | Push
    | Erase
)


def is_outdated(order: DesiredInstance, entry: Entry | None) -> bool:
    """The fence. An erased instance comes back by no order."""
    if entry is None:
        return False
    if entry.erased_at is not None and order.want != "absent":
        return True
    return order.generation < entry.generation


def current_of(containers: Sequence[ContainerFact]) -> ContainerFact | None:
    """The one with the newest system disk; others are leftovers of a change of shape."""
    return max(containers, key=lambda c: (c.disk, c.running, c.id), default=None)


def plan(
    order: DesiredInstance,
    spec: str,
    containers: Sequence[ContainerFact],
    entry: Entry,
    *,
    has_originals: bool = False,
    lease_over: bool = False,
    pushing: bool = False,
) -> list[Action]:
    """has_originals: an interrupted save left files blanked. pushing: a push is on its way."""
    if order.want == "absent":
        if entry.erased_at is not None and not containers:
            return []
        return [Erase(tuple(c.id for c in containers))]
    current = current_of(containers)
    first: list[Action] = [Restore()] if has_originals and current is not None else []
    for leftover in containers:
        if current is not None and leftover.id != current.id:
            # Two containers never write one disk: the newer starts after the older is gone.
            first += [Remove(leftover.id), Untag(leftover.disk)]
    if order.want == "stopped":
        if current is not None and current.running:
            if entry.run is None:
                first.append(Adopt(current.id, current.started_raw))
            return [*first, Stop(current.id)]
        return [*first, *_save(order, current, entry, pushing)]
    if lease_over:
        if current is not None and current.running:
            return [*first, *expire(current, entry)]
        return [*first, *_save(order, current, entry, pushing)]
    return [*first, *_towards_running(order, spec, current, entry, pushing)]


def expire(current: ContainerFact | None, entry: Entry) -> list[Action]:
    """Its lease is over: also where no order is known since the agent started."""
    if current is None or not current.running:
        return []
    adopt: list[Action] = [Adopt(current.id, current.started_raw)] if entry.run is None else []
    return [*adopt, Expire(current.id)]


def _towards_running(
    order: DesiredInstance, spec: str, current: ContainerFact | None, entry: Entry, pushing: bool
) -> list[Action]:
    run = entry.run
    if entry.failure is not None and entry.failure.token == order.start_token:
        return [Stop(current.id)] if current is not None and current.running else []
    if run is not None and run.token == order.start_token:
        return _carry_on(order, spec, current, entry, run, pushing)
    if current is None:
        return _fresh(entry.disk)
    if run is None and (current.running or _already_ran(order, current)):
        return [Adopt(current.id, current.started_raw)]
    if current.running:
        return [Stop(current.id)]
    return [*_save(order, current, entry, pushing), *_begin(spec, current)]


def _carry_on(
    order: DesiredInstance,
    spec: str,
    current: ContainerFact | None,
    entry: Entry,
    run: Run,
    pushing: bool,
) -> list[Action]:
    """The start was journaled: begin it if it never happened, else leave it as it is."""
    if current is None:
        return [] if run.began or run.finished_at else _fresh(entry.disk)
    if current.running:
        ready: list[Action] = [AwaitReady()] if run.started_at is None else []
        return [*ready, *_save(order, current, entry, pushing)]
    if not run.began and current.started_raw == run.before:
        return _begin(spec, current)
    return _save(order, current, entry, pushing)


def _fresh(disk: int) -> list[Action]:
    return [Create(disk), Start(None, ""), AwaitReady()]


def _begin(spec: str, current: ContainerFact) -> list[Action]:
    if current.spec == spec:
        return [Start(current.id, current.started_raw), AwaitReady()]
    disk = current.disk + 1
    return [
        Commit(current.id, disk),
        Create(disk),
        Remove(current.id),
        Untag(current.disk),
        Start(None, ""),
        AwaitReady(),
    ]


def _already_ran(order: DesiredInstance, current: ContainerFact) -> bool:
    return current.token == order.start_token and current.has_started


def _save(
    order: DesiredInstance, current: ContainerFact | None, entry: Entry, pushing: bool
) -> list[Action]:
    if order.save is None:
        return []
    known = entry.save
    if known is not None and known.image_id == order.save.image_id:
        if known.state != "saving":
            return []
        if entry.kept is not None and entry.kept.image_id == order.save.image_id:
            return [] if pushing else [Push(order.save)]
    return [Save(current.id if current is not None else None, order.save)]


def settle(entry: Entry, current: ContainerFact | None, *, boot_id: str, now: datetime) -> Entry:
    """The journal's run, completed by what the engine says of its beginning and its end."""
    run = entry.run
    if run is None or run.finished_at is not None:
        return entry
    if current is None:
        if not run.began:
            return entry
        reason = EndReason.killed if run.boot_id == boot_id else EndReason.host_down
        reason = _our_own_reason(run, None) or reason
        ended = run.model_copy(update={"finished_at": now, "end_reason": reason})
        return entry.model_copy(update={"run": ended})
    if not run.began:
        if current.started_raw == run.before:
            return entry
        run = run.model_copy(update={"began": current.started_raw})
    if not current.running:
        run = run.model_copy(
            update={
                "finished_at": current.finished_at or now,
                "end_reason": end_reason(run, current, boot_id),
                "exit_code": current.exit_code,
            }
        )
    return entry.model_copy(update={"run": run})


def end_reason(run: Run, ended: ContainerFact, boot_id: str) -> EndReason:
    if (ours := _our_own_reason(run, ended.finished_at)) is not None:
        return ours
    if run.boot_id != boot_id:
        return EndReason.host_down
    if ended.oom_killed:
        return EndReason.oom
    if ended.exit_code in (137, 143, 255):
        return EndReason.killed
    return EndReason.shutdown


def _our_own_reason(run: Run, finished_at: datetime | None) -> EndReason | None:
    """The first for which we stopped it. What ended before is no effect of that."""
    stops = ((run.ordered_at, EndReason.ordered), (run.expired_at, EndReason.lease))
    causes = [(at, reason) for at, reason in stops if at and (not finished_at or finished_at >= at)]
    return min(causes)[1] if causes else None


def fresh_entry(
    node_id: UUID, order: DesiredInstance, containers: Sequence[ContainerFact]
) -> Entry:
    """For an ordered instance without a journal."""
    current = current_of(containers)
    return Entry(
        node_id=node_id,
        instance_id=order.instance_id,
        generation=order.generation,
        token=order.start_token,
        disk=current.disk if current is not None else 0,
    )


def entry_from_labels(containers: Sequence[ContainerFact]) -> Entry | None:
    """The journal was lost: what the containers' labels remember, the fence above all."""
    current = current_of(containers)
    if current is None:
        return None
    return Entry(
        node_id=current.node_id,
        instance_id=current.instance_id,
        generation=max(c.generation for c in containers),
        token=current.token,
        disk=current.disk,
    )
