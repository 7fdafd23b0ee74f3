"""What people are shown of images."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import repository as rows
from services.registry.domain.filters import Filters
from services.registry.models import Image
from shared.pagination import PageRequest, fetch_page


async def list_images(
    session: AsyncSession, caller_id: UUID, filters: Filters, paging: PageRequest
) -> tuple[list[Image], int]:
    return await fetch_page(session, rows.visible(caller_id, filters), paging)


async def read_image(session: AsyncSession, image_id: UUID, caller_id: UUID) -> Image:
    """The caller's own or a system image. Raises NotFound."""
    return await rows.get_visible(session, image_id, caller_id)
