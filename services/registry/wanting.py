"""Tells hosts which images should be there and which should not: again and again, whole."""

from datetime import timedelta

import structlog

from services.registry import repository as rows
from services.registry.domain.claims import Claim
from services.registry.models import Image
from services.registry.tools import Tools
from shared.bus import Undeliverable
from shared.clock import utc_now
from shared.events import Envelope
from shared.events.agent import ImagesWanted, ImageWanted

log = structlog.get_logger(__name__)

SUBJECT = "images"


async def tell_wanted(tools: Tools) -> None:
    now, settings = utc_now(), tools.settings
    since = now - timedelta(seconds=settings.forget_deleted_s)
    async with tools.database.transaction() as session:
        images = await rows.system_images(session)
        unwanted = await rows.deleted_addresses(session, since)
    addresses = {image.name: image.address for image in images}
    wanted = [
        _wanted(i, addresses, Claim(i.builder, i.heard_at).holder(now, settings.builder_lapses_s))
        for i in images
    ]
    payload = ImagesWanted(images=wanted, unwanted=unwanted)
    try:
        await tools.bus.publish(Envelope.wrap(payload, subject=SUBJECT))
    except Undeliverable as away:
        log.debug("builder_away", reason=str(away))


def _wanted(image: Image, addresses: dict[str, str], builder: str | None) -> ImageWanted:
    base = {"BASE": addresses[image.base]} if image.base in addresses else {}
    return ImageWanted.model_validate(
        {
            "image_id": image.id,
            "recipe": image.recipe,
            "reference": image.address,
            "arguments": base,
            "builder": builder,
        }
    )
