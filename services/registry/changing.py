"""What an owner does with an image: rename, lock, delete."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import repository as rows
from services.registry.errors import ImageLocked
from services.registry.models import Image
from services.registry.saving import free_name
from services.registry.tools import Tools
from shared.clock import utc_now


async def change(
    session: AsyncSession,
    tools: Tools,
    image_id: UUID,
    owner_id: UUID,
    *,
    name: str | None,
    locked: bool | None,
) -> Image:
    """None leaves it as it is. Raises NotFound, ImageNameTaken."""
    await rows.lock_names(session, owner_id)
    image = await rows.lock_own(session, image_id, owner_id)
    if name is not None and name != image.name:
        await free_name(session, tools, owner_id, name)
        image.name = name
    if locked is not None:
        image.locked = locked
    return image


async def delete(session: AsyncSession, tools: Tools, image_id: UUID, owner_id: UUID) -> None:
    """Instances that stand on it go on. Raises NotFound, ImageLocked."""
    image = await rows.lock_own(session, image_id, owner_id)
    if image.locked:
        raise ImageLocked
    image.deleted_at = utc_now()
    tools.want_changed(session)
