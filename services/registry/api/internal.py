"""/internal: what the scheduler asks, as the user it works for."""

from fastapi import APIRouter

from services.registry import saving
from services.registry.api.schemas import ImageView, NewImage
from services.registry.deps import ToolsDep
from shared.app import CallerLanguage, Session
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/internal", tags=["internal"])


@router.post("/images", status_code=201, summary="A place to save to", **policy(Policy.ACTIVE))
async def reserve_image(
    body: NewImage, caller: Caller, session: Session, tools: ToolsDep, language: CallerLanguage
) -> ImageView:
    """Idempotent by `image_id`."""
    place = saving.Place(
        body.image_id, body.name, body.source_image_id, body.instance_id, body.node_id
    )
    return ImageView.of(await saving.reserve(session, tools, caller, place), language)
