"""Images that their owners deleted leave this host too; every agent hears of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from agent.engine import EngineRefused, EngineUnavailable
from agent.imaging import ImageEngine
from shared.events.agent import ImagesWanted

log = structlog.get_logger(__name__)

# Only people's images: no message, however wrong, takes a system image or a foreign one.
PREFIX = "chusuan/u-"


@dataclass(frozen=True, slots=True)
class Clearing:
    """registry: HOST:PORT before the names of images that came from there."""

    images: ImageEngine
    registry: str = ""

    async def take(self, wanted: ImagesWanted) -> None:
        """What fails now is tried again with the next message."""
        try:
            for prefix in {PREFIX, f"{self.registry}/{PREFIX}" if self.registry else PREFIX}:
                unwanted = [name for name in wanted.unwanted if name.startswith(prefix)]
                if unwanted:
                    await self._drop(f"{prefix}*/*", unwanted)
        except (EngineUnavailable, EngineRefused) as error:
            log.warning("image_not_dropped", error=str(error))

    async def _drop(self, pattern: str, unwanted: Sequence[str]) -> None:
        """Containers that stand on one go on; the engine keeps their layers. What was pulled by
        digest has no tag, and no repository holds two images."""
        repositories = {name.rpartition(":")[0] for name in unwanted}
        for name in await self.images.references(pattern):
            repository, at, _ = name.partition("@")
            if name in unwanted or (at and repository in repositories):
                await self.images.untag(name)
                log.info("image_dropped", reference=name)
