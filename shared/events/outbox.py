"""What every service tells once an operator had it tell facts again. The subject is the telling's
own id."""

from datetime import datetime
from typing import ClassVar

from shared.events.envelope import Payload


class OutboxRetold(Payload):
    """Facts that became true in [since, until) and whose type fits `pattern` are told again under
    their old ids, whoever had them already. events: how many."""

    pattern: str
    since: datetime
    until: datetime
    events: int


class AuthOutboxRetold(OutboxRetold):
    type: ClassVar[str] = "auth.outbox.retold"


class StorageOutboxRetold(OutboxRetold):
    type: ClassVar[str] = "storage.outbox.retold"


class RegistryOutboxRetold(OutboxRetold):
    type: ClassVar[str] = "registry.outbox.retold"


class MarketOutboxRetold(OutboxRetold):
    type: ClassVar[str] = "market.outbox.retold"


class SchedulerOutboxRetold(OutboxRetold):
    type: ClassVar[str] = "scheduler.outbox.retold"


_BY_TYPE = {payload.type: payload for payload in OutboxRetold.__subclasses__()}


def retold(
    service: str, *, pattern: str, since: datetime, until: datetime, events: int
) -> OutboxRetold:
    """Told by this service. Raises KeyError for one that has no class here."""
    told = _BY_TYPE[f"{service}.outbox.retold"]
    return told(pattern=pattern, since=since, until=until, events=events)
