"""Which builder an image belongs to: the first that reports it, for as long as it is heard.

Two that build the same never take turns in what is said of it.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

# What the bus says of who reports: an agent in our own process, or a node by its own login.
_SOURCE = re.compile(r"agent|node\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Claim:
    """builder: None when nobody has reported yet. heard_at: when it last did."""

    builder: str | None
    heard_at: datetime

    def holder(self, now: datetime, lapses_s: float) -> str | None:
        if self.builder is None or now - self.heard_at > timedelta(seconds=lapses_s):
            return None
        return self.builder

    def admits(self, source: str, now: datetime, lapses_s: float) -> bool:
        """Whether a report counts; it makes its source the builder then."""
        if not _SOURCE.fullmatch(source):
            return False
        return self.holder(now, lapses_s) in (None, source)
