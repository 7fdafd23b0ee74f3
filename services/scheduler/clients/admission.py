"""The broker's door as the scheduler uses it, and its fake."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.bus import Keeping
from shared.bus.admission import AdmittedQueue, BrokerAway
from shared.events.agent import ImagesWanted, NodeDesired


def login_of(node_id: UUID) -> str:
    return f"node.{node_id}"


def queues_of(node_id: UUID) -> tuple[AdmittedQueue, ...]:
    """What a node may hear: its own orders, and which images are wanted."""
    desired, images = f"agent.{node_id}.desired", f"agent.{node_id}.images"
    return (
        AdmittedQueue(desired, (NodeDesired.type,), str(node_id), Keeping.states),
        AdmittedQueue(images, (ImagesWanted.type,), None, Keeping.states),
    )


@dataclass
class FakeAdmission:
    """passwords: by login, of those who are in. away: so many calls find no broker.
    lost_answers: so many are done and not answered."""

    passwords: dict[str, str] = field(default_factory=dict)
    queues: dict[str, tuple[AdmittedQueue, ...]] = field(default_factory=dict)
    away: int = 0
    lost_answers: int = 0

    async def admit(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        self._answer_or_not()
        self.passwords[login] = password
        self.queues |= {login: tuple(queues)}
        self._lose_answer()

    async def dismiss(self, login: str, queues: Sequence[str]) -> None:
        self._answer_or_not()
        self.passwords.pop(login, None)
        for left in self.queues.pop(login, ()):
            if left.queue not in queues:
                raise AssertionError(f"{left.queue} is left behind")
        self._lose_answer()

    def _answer_or_not(self) -> None:
        if self.away:
            self.away -= 1
            raise BrokerAway("away")

    def _lose_answer(self) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            raise BrokerAway("the answer was lost")
