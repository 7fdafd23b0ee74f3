"""Tells the log whether anybody hears this host: at once, then once a minute, not at each try."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

REPEAT_S = 60.0
CURE = (
    "the agent goes on trying, and instances run until what was paid for is over. Check network and"
    " broker; where the broker refuses the login (ACCESS_REFUSED), an operator has revoked or"
    " removed this node: chusuan nodes invite makes a new token for chusuan agent --join"
)


@dataclass
class Contact:
    """clock: monotonic seconds."""

    node: str
    clock: Callable[[], float] = time.monotonic
    _lost_at: float | None = None
    _said_at: float = 0.0

    def failed(self, error: Exception) -> None:
        now = self.clock()
        if self._lost_at is None:
            self._lost_at = now
        elif now - self._said_at < REPEAT_S:
            return
        self._said_at = now
        since_s = round(now - self._lost_at)
        log.warning("contact_lost", node=self.node, since_s=since_s, error=str(error), cure=CURE)

    def reached(self) -> None:
        if self._lost_at is not None:
            away_s = round(self.clock() - self._lost_at)
            log.info("contact_back", node=self.node, away_s=away_s)
            self._lost_at = None
