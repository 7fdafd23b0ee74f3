"""/api/v1/images: what an instance can start from."""

from uuid import UUID

from fastapi import APIRouter

from services.registry import changing, reading
from services.registry.api.schemas import ImageChange, ImageView
from services.registry.deps import FiltersDep, ToolsDep
from shared.app import CallerLanguage, Session
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/images", tags=["images"])


@router.get("", summary="Images", **policy(Policy.ANY_ACCOUNT))
async def list_images(
    caller: Caller, session: Session, paging: Paging, filters: FiltersDep, language: CallerLanguage
) -> Page[ImageView]:
    """System images in their order, then your own, newest first; `tab` chooses one of the two."""
    found, total = await reading.list_images(session, caller.id, filters, paging)
    items = [ImageView.of(image, language) for image in found]
    return Page(items=items, total=total, page=paging.page, size=paging.size)


@router.get("/{image_id}", summary="One image", **policy(Policy.ANY_ACCOUNT))
async def show_image(
    image_id: UUID, caller: Caller, session: Session, language: CallerLanguage
) -> ImageView:
    return ImageView.of(await reading.read_image(session, image_id, caller.id), language)


@router.patch("/{image_id}", summary="Rename or lock one", **policy(Policy.ACTIVE))
async def change_image(
    image_id: UUID,
    body: ImageChange,
    caller: Caller,
    session: Session,
    tools: ToolsDep,
    language: CallerLanguage,
) -> ImageView:
    """Of your own; a locked image cannot be deleted."""
    image = await changing.change(
        session, tools, image_id, caller.id, name=body.name, locked=body.locked
    )
    return ImageView.of(image, language)


@router.delete("/{image_id}", status_code=204, summary="Delete one", **policy(Policy.ACTIVE))
async def delete_image(image_id: UUID, caller: Caller, session: Session, tools: ToolsDep) -> None:
    """Of your own; hosts drop it too. Instances started from it go on."""
    await changing.delete(session, tools, image_id, caller.id)
