"""The CloudEvents 1.0 envelope around every payload."""

from datetime import datetime
from typing import ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from shared.clock import utc_now
from shared.ids import new_id
from shared.telemetry import traceparent


class Payload(BaseModel):
    """Base of all event payloads. Readers ignore fields they do not know.

    type: routing key and CloudEvents `type`.
    version: of this payload's shape.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    version: ClassVar[int] = 1


class Envelope(BaseModel):
    """source: who says it, as far as the bus can prove: `node.<id>` for an agent that logs in with
    its own credential, `agent` for one in our own process, else the service.
    subject: id of the aggregate the fact is about; events of one subject keep their order.
    sequence: the aggregate's own version, rising; consumers may refuse an older one.
    actor: the account that caused it, for the audit trail; None when the platform did.
    traceparent: of CloudEvents' distributed tracing extension; None where nothing is traced.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str = "1.0"
    id: UUID
    source: str
    type: str
    subject: str
    time: datetime
    dataversion: int = 1
    sequence: int = 0
    actor: UUID | None = None
    traceparent: str | None = None
    data: dict[str, JsonValue]

    @classmethod
    def wrap(
        cls,
        payload: Payload,
        *,
        subject: object,
        sequence: int = 0,
        actor: UUID | None = None,
    ) -> Self:
        return cls(
            id=new_id(),
            source=payload.type.partition(".")[0],
            type=payload.type,
            subject=str(subject),
            time=utc_now(),
            dataversion=payload.version,
            sequence=sequence,
            actor=actor,
            traceparent=traceparent(),
            data=payload.model_dump(mode="json"),
        )
