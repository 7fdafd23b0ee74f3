"""An instance's system disk becomes an image: registry names it, the agent makes it."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import moving
from services.scheduler.calling_out import Answering, M, with_reserved
from services.scheduler.clients.registry import Image, NewImage
from services.scheduler.domain.states import MOVES, Move, State
from services.scheduler.errors import IllegalMove
from services.scheduler.models import Instance
from services.scheduler.repository import instances as rows
from services.scheduler.tools import Tools
from shared.clock import utc_now
from shared.events.scheduler import InstanceSaveFailed
from shared.ids import new_id
from shared.outbox import emit
from shared.tokens import Principal


async def save(
    tools: Tools, caller: Principal, instance_id: UUID, name: str, answering: Answering[M]
) -> M:
    """Raises NotFound, IllegalMove, RemoteRefusal, Unavailable."""

    async def reserve() -> Image:
        async with tools.database.transaction() as session:
            instance = await rows.get_instance(session, instance_id, owner_id=caller.id)
            _require_save(instance)
        new = NewImage(new_id(), name, instance.image_id, instance.id)
        return await tools.registry.create_image(new, token=caller.token)

    async def apply(session: AsyncSession, image: Image) -> Instance:
        instance = await rows.get_instance(session, instance_id, owner_id=caller.id, lock=True)
        _require_save(instance)
        await moving.move(
            session, tools.signals, instance, State.saving,
            cause="save", now=utc_now(), actor=caller.id,
            resume=instance.state, save_image_id=image.id, save_reference=image.address,
        )  # fmt: skip
        return instance

    async def give_back(session: AsyncSession, image: Image) -> None:
        payload = InstanceSaveFailed(instance_id=instance_id, image_id=image.id, reason="refused")
        await emit(session, payload, subject=instance_id)

    return await with_reserved(
        tools.database, answering, reserve=reserve, apply=apply, give_back=give_back
    )


def _require_save(instance: Instance) -> None:
    state = State(instance.state)
    if Move.save not in MOVES[state]:
        raise IllegalMove(state, Move.save)
