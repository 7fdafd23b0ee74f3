"""An instance's system disk becomes an image of its owner's."""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import repository as rows
from services.registry.domain.states import Kind, State
from services.registry.domain.words import readable, saved_address
from services.registry.errors import ImageIdTaken, ImageNameTaken
from services.registry.models import Image
from services.registry.moving import move
from services.registry.tools import Tools
from shared.clock import utc_now
from shared.events.scheduler import InstanceSaved, InstanceSaveFailed
from shared.text import Text
from shared.tokens import Principal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Asked for by the scheduler, for an image that an instance is to become. node_id: the host
    that makes it, the only one that may push it."""

    image_id: UUID
    name: str
    source_image_id: UUID
    instance_id: UUID
    node_id: UUID | None = None


async def reserve(session: AsyncSession, tools: Tools, caller: Principal, place: Place) -> Image:
    """Idempotent by the image's id. Raises NotFound for a source that the caller may not see,
    ImageNameTaken, ImageIdTaken."""
    await rows.lock_names(session, caller.id)
    known = await rows.find(session, place.image_id)
    if known is not None:
        if not _is_same(known, caller, place):
            raise ImageIdTaken(field="image_id")
        return known
    # Deleted ones too: an instance outlives the image that it was started from.
    source = await rows.get_visible(session, place.source_image_id, caller.id, deleted=True)
    await free_name(session, tools, caller.id, place.name)
    now = utc_now()
    image = Image(
        id=place.image_id,
        kind=Kind.saved.value,
        owner_id=caller.id,
        name=place.name,
        creator=caller.username,
        address=saved_address(caller.id, place.image_id, registry=tools.settings.oci_address),
        framework=source.framework,
        framework_version=source.framework_version,
        python=source.python,
        cuda=source.cuda,
        apps=list(source.apps),
        status=State.building.value,
        locked=False,
        source_image_id=source.id,
        instance_id=place.instance_id,
        host_id=place.node_id,
        created_at=now,
        heard_at=now,
    )
    if not await rows.add(session, image):
        raise ImageIdTaken(field="image_id")
    return image


def _is_same(known: Image, caller: Principal, place: Place) -> bool:
    return (
        known.owner_id == caller.id
        and known.deleted_at is None
        and known.source_image_id == place.source_image_id
        and known.instance_id == place.instance_id
    )


async def free_name(session: AsyncSession, tools: Tools, owner_id: UUID, name: str) -> None:
    """A failed image gives its name up. Needs `lock_names`. Raises ImageNameTaken."""
    holder = await rows.lock_named(session, owner_id, name)
    if holder is None:
        return
    if holder.status != State.failed.value:
        raise ImageNameTaken(field="name", name=name)
    holder.deleted_at = utc_now()
    await session.flush()
    tools.want_changed(session)


async def finish(session: AsyncSession, saved: InstanceSaved) -> None:
    image = await rows.lock(session, saved.image_id)
    if image is None or image.kind != Kind.saved.value:
        # Deleted meanwhile: hosts are told to drop it.
        log.info("saved_image_unknown", image_id=str(saved.image_id))
        return
    if move(image, State.ready):
        image.digest, image.size_bytes = saved.digest, saved.size_bytes


async def fail(session: AsyncSession, failure: InstanceSaveFailed) -> None:
    image = await rows.lock(session, failure.image_id)
    if image is None or image.kind != Kind.saved.value:
        return
    reason = readable(failure.reason)
    move(image, State.failed, message=Text(reason, reason))
