"""Start and restart: both are paid for anew before anything moves."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.calling_out import Answering, M, Work, with_reserved
from services.scheduler.clients.market import Authorisation, StartRequest
from services.scheduler.domain.node_states import NodeState
from services.scheduler.domain.placement import Plan, Refusal
from services.scheduler.domain.states import MOVES, Move, State
from services.scheduler.errors import GpusTaken, HostDraining, HostSilent, IllegalMove
from services.scheduler.models import Instance, Node, Reservation
from services.scheduler.placing import plan_on, promise_plan
from services.scheduler.renting import refusal_error
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.reserving import START
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.errors import NotFound
from shared.events.scheduler import Mode
from shared.ids import new_id
from shared.text import Text
from shared.tokens import Principal


@dataclass(frozen=True, slots=True)
class StartOrder:
    """waits: where its GPUs are taken, it queues for them instead of being refused."""

    mode: Mode
    waits: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the request was paid for: a host and a shape that never change."""

    node_id: UUID
    gpu_count: int
    mode: str


Effect = Callable[[AsyncSession, Node, Instance, Authorisation], Awaitable[None]]


async def start(
    tools: Tools, caller: Principal, instance_id: UUID, wanted: StartOrder, answering: Answering[M]
) -> M:
    """Raises NotFound, IllegalMove, GpusTaken, HostSilent, HostDraining, RemoteRefusal,
    Unavailable."""

    async def effect(
        session: AsyncSession, node: Node, instance: Instance, authorisation: Authorisation
    ) -> None:
        target, reason = await _take_gpus(session, node, instance, wanted)
        await _begin(
            session, tools, instance, wanted.mode, authorisation,
            target=target, reason=reason, actor=caller.id,
        )  # fmt: skip

    return await _authorised(tools, caller, instance_id, Move.start, wanted, answering, effect)


async def restart(tools: Tools, caller: Principal, instance_id: UUID, answering: Answering[M]) -> M:
    """Stops first; the new start begins, on the same GPUs, when the stop is proven. Raises
    NotFound, IllegalMove, RemoteRefusal, Unavailable."""

    async def effect(
        session: AsyncSession, _: Node, instance: Instance, authorisation: Authorisation
    ) -> None:
        await moving.move(
            session, tools.signals, instance, State.stopping,
            cause="restart", now=utc_now(), actor=caller.id,
            stop_reason="user",
            next_authorisation_id=authorisation.id,
            next_price_per_hour=authorisation.price_per_hour,
        )  # fmt: skip

    return await _authorised(tools, caller, instance_id, Move.restart, None, answering, effect)


async def _authorised(
    tools: Tools,
    caller: Principal,
    instance_id: UUID,
    move: Move,
    order: StartOrder | None,
    answering: Answering[M],
    effect: Effect,
) -> M:
    """order: None for a restart, which keeps its mode and its GPUs."""
    found: _Found

    async def check(session: AsyncSession) -> None:
        nonlocal found
        instance = await rows.get_instance(session, instance_id, owner_id=caller.id)
        _require(instance, move)
        node = await host.find_node(session, instance.node_id)
        if node is None or node.state != NodeState.online:
            raise HostSilent
        if order is not None and node.draining:
            raise HostDraining
        if order is not None and order.mode == "gpu":
            await _find_gpus(session, node, instance, waits=order.waits)
        mode = order.mode if order is not None else instance.mode
        found = _Found(instance.node_id, instance.gpu_count, mode)

    async def ask(reservation: Reservation) -> Authorisation:
        request = StartRequest(
            reservation.id, instance_id, found.node_id, found.gpu_count, found.mode
        )
        return await tools.market.authorise(request, token=caller.token)

    async def apply(
        session: AsyncSession, _: Reservation, authorisation: Authorisation
    ) -> Instance:
        node, instance = await _locked(session, caller, instance_id, found.node_id, move)
        await effect(session, node, instance, authorisation)
        return instance

    work = Work(START, instance_id, check=check, ask=ask, apply=apply)
    return await with_reserved(tools.database, answering, work)


def _require(instance: Instance, wanted: Move) -> None:
    state = State(instance.state)
    if wanted not in MOVES[state]:
        raise IllegalMove(state, wanted)


async def _locked(
    session: AsyncSession, caller: Principal, instance_id: UUID, node_id: UUID, wanted: Move
) -> tuple[Node, Instance]:
    """The node's lock first: whoever promises holds it."""
    node = await host.find_node(session, node_id, lock=True)
    if node is None:
        raise NotFound
    instance = await rows.get_instance(session, instance_id, owner_id=caller.id, lock=True)
    _require(instance, wanted)
    return node, instance


async def _find_gpus(
    session: AsyncSession, node: Node, instance: Instance, *, waits: bool
) -> Plan | Refusal | None:
    """None when it holds what it needs already; a refusal only for one that waits. Raises
    GpusTaken, HostSilent, HostDraining, TooManyGpus."""
    held = await host.devices_of(session, [instance.id])
    if len(held.get(instance.id, [])) == instance.gpu_count:
        return None
    waiting = await rows.count_waiting(session, node.id)
    answer = await plan_on(session, node, gpu_count=instance.gpu_count, waiting=waiting)
    if isinstance(answer, Plan) or (answer.may_wait and waits):
        return answer
    if answer.may_wait:
        raise GpusTaken(reason=answer.reason, choices=["wait", "cpu"])
    raise refusal_error(answer)


async def _take_gpus(
    session: AsyncSession, node: Node, instance: Instance, wanted: StartOrder
) -> tuple[State, Text | None]:
    """Where the start leads, and why it waits."""
    if wanted.mode == "gpu":
        answer = await _find_gpus(session, node, instance, waits=wanted.waits)
        if isinstance(answer, Refusal):
            return State.queued, answer.reason
        if answer is not None:
            await promise_plan(session, node, answer, instance.id, utc_now())
    return State.starting, None


async def _begin(
    session: AsyncSession,
    tools: Tools,
    instance: Instance,
    mode: Mode,
    authorisation: Authorisation,
    *,
    target: State,
    reason: Text | None,
    actor: UUID,
) -> None:
    now = utc_now()
    await moving.move(
        session, tools.signals, instance, target,
        cause="start", now=now, actor=actor, reason=reason,
        mode=mode,
        authorisation_id=authorisation.id,
        price_per_hour=authorisation.price_per_hour,
        start_token=new_id(),
        start_ordered_at=now,
        progress_at=now,
        progress=None,
        progress_mark="",
        started_at=None,
        stopped_at=None,
        stop_reason=None,
    )  # fmt: skip
