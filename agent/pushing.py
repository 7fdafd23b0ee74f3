"""A saved image on its way to the registry, beside whatever its instance does meanwhile."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from agent.engine import CommittedImage, Engine, EngineRefused, EngineUnavailable
from shared.events.agent import SaveOrder

log = structlog.get_logger(__name__)

FIRST_RETRY_S = 2.0
LAST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """image: None for a push that the registry refused; then `message` says why."""

    image_id: UUID
    image: CommittedImage | None
    message: str = ""


@dataclass
class Pushing:
    """At most one at a time. A registry that is away is waited for, without end: who ordered the
    save has a deadline. ended: called when `result` is there. moved: `words` are new."""

    engine: Engine
    ended: Callable[[], None]
    moved: Callable[[], None]
    result: Pushed | None = None
    words: str = ""
    image_id: UUID | None = None
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    def begin(self, order: SaveOrder) -> None:
        if self.image_id != order.image_id:
            self.image_id, self.result, self.words = order.image_id, None, "pushing"
            self._task = asyncio.create_task(self._push(order))

    async def end(self) -> None:
        """Whatever it has reached; a later push of the same goes on from there."""
        task, self._task = self._task, None
        self.image_id, self.result, self.words = None, None, ""
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _push(self, order: SaveOrder) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            try:
                image = await self.engine.push(order.reference, self._progress)
                result = Pushed(order.image_id, image)
                break
            except EngineUnavailable as error:
                log.warning("push_waits", reference=order.reference, error=str(error))
                self._say(str(error))
            except EngineRefused as error:
                log.warning("push_refused", reference=order.reference, error=str(error))
                result = Pushed(order.image_id, None, str(error))
                break
            await asyncio.sleep(delay_s)
            delay_s = min(LAST_RETRY_S, delay_s * 2)
        self.result = result
        self.ended()

    def _progress(self, share: float | None, words: str) -> None:
        self._say("pushing" if share is None else f"pushing {share:.0%}")

    def _say(self, words: str) -> None:
        if words != self.words:
            self.words = words[:300]
            self.moved()
