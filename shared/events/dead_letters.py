"""What every service tells of events that it could not handle, once an operator has decided.

The subject is the event's id.
"""

from typing import ClassVar
from uuid import UUID

from shared.events.envelope import Payload


class DeadLetterReplayed(Payload):
    """The effect happened after all. consumer: the queue that had parked it."""

    consumer: str
    event_id: UUID
    event_type: str


class DeadLetterDropped(Payload):
    """The effect will never happen here: an operator threw the event away. error: why it had
    been parked."""

    consumer: str
    event_id: UUID
    event_type: str
    error: str


class AuthDeadLetterReplayed(DeadLetterReplayed):
    type: ClassVar[str] = "auth.dead_letter.replayed"


class AuthDeadLetterDropped(DeadLetterDropped):
    type: ClassVar[str] = "auth.dead_letter.dropped"


class StorageDeadLetterReplayed(DeadLetterReplayed):
    type: ClassVar[str] = "storage.dead_letter.replayed"


class StorageDeadLetterDropped(DeadLetterDropped):
    type: ClassVar[str] = "storage.dead_letter.dropped"


class RegistryDeadLetterReplayed(DeadLetterReplayed):
    type: ClassVar[str] = "registry.dead_letter.replayed"


class RegistryDeadLetterDropped(DeadLetterDropped):
    type: ClassVar[str] = "registry.dead_letter.dropped"


class MarketDeadLetterReplayed(DeadLetterReplayed):
    type: ClassVar[str] = "market.dead_letter.replayed"


class MarketDeadLetterDropped(DeadLetterDropped):
    type: ClassVar[str] = "market.dead_letter.dropped"


class SchedulerDeadLetterReplayed(DeadLetterReplayed):
    type: ClassVar[str] = "scheduler.dead_letter.replayed"


class SchedulerDeadLetterDropped(DeadLetterDropped):
    type: ClassVar[str] = "scheduler.dead_letter.dropped"


_CLASSES = (
    *DeadLetterReplayed.__subclasses__(),
    *DeadLetterDropped.__subclasses__(),
)
_BY_TYPE = {payload.type: payload for payload in _CLASSES}


def replayed(service: str, *, consumer: str, event_id: UUID, event_type: str) -> Payload:
    """Told by this service. Raises KeyError for one that has no class here."""
    told = _BY_TYPE[f"{service}.dead_letter.replayed"]
    return told.model_validate(
        {"consumer": consumer, "event_id": event_id, "event_type": event_type}
    )


def dropped(service: str, *, consumer: str, event_id: UUID, event_type: str, error: str) -> Payload:
    told = _BY_TYPE[f"{service}.dead_letter.dropped"]
    return told.model_validate(
        {"consumer": consumer, "event_id": event_id, "event_type": event_type, "error": error}
    )
