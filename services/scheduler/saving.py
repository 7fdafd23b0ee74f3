"""An instance's system disk becomes an image: registry names it, the agent makes it."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.calling_out import Answering, M, Work, with_reserved
from services.scheduler.clients.registry import Image, NewImage
from services.scheduler.domain.states import MOVES, Move, State
from services.scheduler.errors import IllegalMove
from services.scheduler.models import Instance, Reservation
from services.scheduler.repository import instances as rows
from services.scheduler.reserving import IMAGE
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.tokens import Principal


async def save(
    tools: Tools, caller: Principal, instance_id: UUID, name: str, answering: Answering[M]
) -> M:
    """Raises NotFound, IllegalMove, RemoteRefusal, Unavailable."""

    source: UUID
    node_id: UUID

    async def check(session: AsyncSession) -> None:
        nonlocal source, node_id
        instance = await rows.get_instance(session, instance_id, owner_id=caller.id)
        _require_save(instance)
        source, node_id = instance.image_id, instance.node_id

    async def ask(reservation: Reservation) -> Image:
        new = NewImage(reservation.id, name, source, instance_id, node_id)
        return await tools.registry.create_image(new, token=caller.token)

    async def apply(session: AsyncSession, _: Reservation, image: Image) -> Instance:
        instance = await rows.get_instance(session, instance_id, owner_id=caller.id, lock=True)
        _require_save(instance)
        await moving.move(
            session, tools.signals, instance, State.saving,
            cause="save", now=utc_now(), actor=caller.id,
            resume=instance.state, save_image_id=image.id, save_reference=image.address,
        )  # fmt: skip
        return instance

    work = Work(IMAGE, instance_id, check=check, ask=ask, apply=apply)
    return await with_reserved(tools.database, answering, work)


def _require_save(instance: Instance) -> None:
    state = State(instance.state)
    if Move.save not in MOVES[state]:
        raise IllegalMove(state, Move.save)
