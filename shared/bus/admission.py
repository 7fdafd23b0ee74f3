"""Who may use the broker, and for what: a node gets a login and queues of its own.

Whoever holds a node's password can read that node's orders and say that node's reports, nothing
else. The bus inside one process has no logins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.bus.protocol import Keeping


class BrokerAway(Exception):
    """No answer, or a broken one: whether it was done is unknown, and asking again is safe."""


class BrokerRefused(Exception):
    """The broker understood and said no: asking again changes nothing."""


@dataclass(frozen=True, slots=True)
class AdmittedQueue:
    """As `Subscription`, without its handler."""

    queue: str
    patterns: tuple[str, ...]
    subject: str | None
    keeping: Keeping


class Admission(Protocol):
    async def admit(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        """The login exists with this password, may read these queues, which exist, and (may_report)
        say reports in its own name. Idempotent; replaces an earlier password. Raises BrokerAway,
        BrokerRefused."""
        ...

    async def dismiss(self, login: str, queues: Sequence[str]) -> None:
        """The login is gone, its connections are closed, its queues deleted. Idempotent. Raises
        BrokerAway, BrokerRefused."""
        ...
