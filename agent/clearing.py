"""Images that their owners deleted leave this host too; every agent hears of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from agent.engine import EngineRefused, EngineUnavailable
from agent.imaging import ImageEngine
from shared.bus import Keeping, Subscription
from shared.events.agent import ImagesWanted
from shared.events.envelope import Envelope

log = structlog.get_logger(__name__)

# Only people's images: no message, however wrong, takes a system image or a foreign one.
PREFIX = "chusuan/u-"


@dataclass(frozen=True, slots=True)
class Clearing:
    """queue: this host's own."""

    images: ImageEngine
    queue: str

    @property
    def subscription(self) -> Subscription:
        return Subscription(self.queue, (ImagesWanted.type,), self._take, keeping=Keeping.states)

    async def _take(self, envelope: Envelope) -> None:
        unwanted = ImagesWanted.model_validate(envelope.data).unwanted
        if unwanted:
            await self._drop(unwanted)

    async def _drop(self, unwanted: Sequence[str]) -> None:
        """Containers that stand on one go on; the engine keeps their layers. What fails now is
        tried again with the next message."""
        try:
            there = await self.images.references(f"{PREFIX}*/*")
            for reference in set(there).intersection(unwanted):
                await self.images.untag(reference)
                log.info("image_dropped", reference=reference)
        except (EngineUnavailable, EngineRefused) as error:
            log.warning("image_not_dropped", error=str(error))
