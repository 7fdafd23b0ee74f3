"""The one way in which an image's status changes. The caller holds the row's lock."""

import structlog

from services.registry.domain.states import Kind, State, may_move
from services.registry.models import Image, Words
from shared.text import Text

log = structlog.get_logger(__name__)


def words(reason: Text | None) -> Words | None:
    return None if reason is None else {"zh": reason.zh, "en": reason.en}


def move(image: Image, target: State, *, message: Text | None = None) -> bool:
    """False, and nothing changed, where the table forbids it: news that came too late.

    A status that it has already only takes the new message.
    """
    source = State(image.status)
    if target is not source:
        if not may_move(Kind(image.kind), source, target):
            log.warning("image_move_ignored", image_id=str(image.id), source=source, target=target)
            return False
        image.status = target.value
        log.info("image_moved", image_id=str(image.id), source=source, target=target)
    image.message = words(message)
    if target is not State.building:
        image.progress = None
    return True
