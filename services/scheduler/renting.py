"""A new instance: checked, paid for, promised and ordered in that order."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.calling_out import Answering, M, Work, with_reserved
from services.scheduler.clients.market import Authorisation, StartRequest
from services.scheduler.clients.registry import Image
from services.scheduler.credentials import Secrets, make_secrets
from services.scheduler.domain.node_states import NodeState
from services.scheduler.domain.placement import Cause, Plan, Refusal
from services.scheduler.domain.states import State
from services.scheduler.errors import (
    HostDraining,
    HostSilent,
    ImageNotReady,
    ImageTooNew,
    NoPortsLeft,
    OfferNotFound,
    TooManyGpus,
)
from services.scheduler.models import Instance, Node, Reservation
from services.scheduler.placing import plan_on, promise_plan
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.reserving import START
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.ids import new_id
from shared.telemetry import traceparent
from shared.tokens import Principal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """name: may be empty."""

    name: str
    offer_id: UUID
    gpu_count: int
    image_id: UUID
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Reserved:
    image: Image
    authorisation: Authorisation
    secrets: Secrets


async def rent(tools: Tools, caller: Principal, wish: Wish, answering: Answering[M]) -> M:
    """Raises OfferNotFound, HostSilent, HostDraining, TooManyGpus, ImageNotReady, ImageTooNew,
    NoPortsLeft, RemoteRefusal, Unavailable. Without free GPUs it waits in the host's queue."""

    image = await tools.registry.get_image(wish.image_id, token=caller.token)
    if image.status != "ready":
        raise ImageNotReady(field="image_id", image_status=image.status)

    async def check(session: AsyncSession) -> None:
        await _check(session, wish, image)

    async def ask(reservation: Reservation) -> _Reserved:
        start = StartRequest(
            reservation.id, reservation.instance_id, wish.offer_id, wish.gpu_count, "gpu"
        )
        authorisation = await tools.market.authorise(start, token=caller.token)
        return _Reserved(image, authorisation, make_secrets())

    async def apply(
        session: AsyncSession, reservation: Reservation, reserved: _Reserved
    ) -> Instance:
        return await _create(session, tools, caller.id, wish, reservation.instance_id, reserved)

    return await with_reserved(
        tools.database, answering, Work(START, None, check=check, ask=ask, apply=apply)
    )


async def _check(session: AsyncSession, wish: Wish, image: Image) -> None:
    """Before any money is held."""
    node = await host.find_node(session, wish.offer_id)
    if node is None or node.state == NodeState.removed:
        raise OfferNotFound(field="offer_id")
    await _plan(session, node, wish, image)


async def _plan(session: AsyncSession, node: Node, wish: Wish, image: Image) -> Plan | Refusal:
    """A refusal only where waiting helps."""
    waiting = await rows.count_waiting(session, node.id)
    answer = await plan_on(
        session, node, gpu_count=wish.gpu_count, cuda=image.cuda, waiting=waiting
    )
    if isinstance(answer, Refusal) and not answer.may_wait:
        raise refusal_error(answer)
    return answer


def refusal_error(refusal: Refusal) -> HostSilent | HostDraining | ImageTooNew | TooManyGpus:
    match refusal.cause:
        case Cause.offline:
            return HostSilent(field="offer_id")
        case Cause.draining:
            return HostDraining(field="offer_id")
        case Cause.image_too_new:
            return ImageTooNew(field="image_id", reason=refusal.reason)
        case _:
            return TooManyGpus(field="gpu_count", reason=refusal.reason)


async def _create(
    session: AsyncSession,
    tools: Tools,
    owner_id: UUID,
    wish: Wish,
    instance_id: UUID,
    reserved: _Reserved,
) -> Instance:
    now = utc_now()
    node = await host.find_node(session, wish.offer_id, lock=True)
    if node is None or node.state == NodeState.removed:
        raise OfferNotFound(field="offer_id")
    plan = await _plan(session, node, wish, reserved.image)
    ports = await host.take_ports(session, node, instance_id, 2)
    if ports is None:
        raise NoPortsLeft(field="offer_id")
    share = _share(node, wish, await _device_count(session, node))
    instance = _new_instance(
        instance_id, owner_id, wish, reserved, ports=ports, share=share, now=now
    )
    if isinstance(plan, Refusal):
        instance.state = State.queued.value
        instance.status_reason = moving.words(plan.reason)
    session.add(instance)
    await session.flush()
    if isinstance(plan, Plan):
        await promise_plan(session, node, plan, instance.id, now)
        tools.signals.order_changed(session, node.id)
    moving.record(session, instance, None, cause="rent", now=now, actor=owner_id)
    log.info("instance_rented", instance_id=str(instance.id), state=instance.state, node=node.name)
    return instance


async def _device_count(session: AsyncSession, node: Node) -> int:
    return sum(gpu.present for gpu in await host.devices(session, node.id))


def _share(node: Node, wish: Wish, device_count: int) -> tuple[float, int]:
    """Cores and bytes: as much of the host as of its GPUs."""
    part = wish.gpu_count / device_count
    return round(node.cpu_cores * part, 2), int(node.memory_bytes * part)


def _new_instance(
    instance_id: UUID,
    owner_id: UUID,
    wish: Wish,
    reserved: _Reserved,
    *,
    ports: list[int],
    share: tuple[float, int],
    now: datetime,
) -> Instance:
    image, secrets = reserved.image, reserved.secrets
    return Instance(
        id=instance_id,
        account_id=owner_id,
        node_id=wish.offer_id,
        name=wish.name,
        state=State.creating.value,
        mode="gpu",
        gpu_count=wish.gpu_count,
        cpu_cores=share[0],
        memory_bytes=share[1],
        env=wish.env,
        image_id=image.id,
        image_name=image.name,
        image_address=image.exact_address,
        image_apps=[app.model_dump() for app in image.apps],
        ssh_port=ports[0],
        app_port=ports[1],
        password=secrets.password,
        password_hash=secrets.password_hash,
        app_token=secrets.app_token,
        ssh_host_key=secrets.ssh_host_key,
        start_token=new_id(),
        authorisation_id=reserved.authorisation.id,
        price_per_hour=reserved.authorisation.price_per_hour,
        progress_at=now,
        traceparent=traceparent(),
        created_at=now,
        start_ordered_at=now,
    )
