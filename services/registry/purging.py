"""What was deleted here leaves the OCI registry too; bytes go with the next collection there."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import repository as rows
from services.registry.models import Image
from services.registry.tools import Tools
from shared.clock import utc_now


async def due(session: AsyncSession, tools: Tools) -> list[Image]:
    if tools.oci is None:
        return []
    return await rows.with_manifests(session, f"{tools.settings.oci_address}/")


async def purge(tools: Tools, image: Image) -> None:
    """Outside of a transaction; safe to repeat. Raises Unavailable."""
    address = image.address.removeprefix(f"{tools.settings.oci_address}/")
    repository, _, tag = address.rpartition(":")
    if tools.oci is not None:
        await tools.oci.delete(repository, tag)


async def note_purged(session: AsyncSession, image_id: UUID) -> None:
    image = await rows.find(session, image_id)
    if image is not None:
        image.manifest_gone_at = utc_now()
