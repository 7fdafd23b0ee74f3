"""Passwords of hosts, as the scheduler vouches for them."""

import hashlib
import secrets
import time
from dataclasses import dataclass, field

from services.registry.clients.scheduler import SchedulerClient

MAX_KNOWN = 10_000


@dataclass
class Logins:
    """Docker asks dozens of times for one image: a password that was right is so for a while.
    Kept as a salted hash; a wrong one is never kept."""

    scheduler: SchedulerClient
    lives_s: float
    _salt: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    _known: dict[bytes, float] = field(default_factory=dict)

    async def is_good(self, login: str, password: str) -> bool:
        """Raises Unavailable."""
        key = hashlib.sha256(self._salt + f"{login}\0{password}".encode()).digest()
        now = time.monotonic()
        if self._known.get(key, 0.0) > now:
            return True
        if not await self.scheduler.knows_node(login, password):
            return False
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[key] = now + self.lives_s
        return True
