"""Market's word that a start can be paid."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import httpx
from pydantic import BaseModel

from shared.errors import DomainError, Unavailable
from shared.http import call


@dataclass(frozen=True, slots=True)
class StartRequest:
    authorisation_id: UUID
    instance_id: UUID
    node_id: UUID
    gpu_count: int
    mode: str


@dataclass(frozen=True, slots=True)
class Authorisation:
    """paid_until: how far the account's money reaches for all that it runs, this start included;
    None where nothing costs anything."""

    id: UUID
    price_per_hour: Decimal
    paid_until: datetime | None = None


class MarketClient(Protocol):
    async def authorise(self, start: StartRequest, *, token: str) -> Authorisation:
        """As the user whose token it is; idempotent by the authorisation's id. Raises
        RemoteRefusal (402 when an hour cannot be paid), Unavailable."""
        ...


class _Answer(BaseModel):
    id: UUID
    price_per_hour: Decimal
    paid_until: datetime | None = None


class HttpMarket:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def authorise(self, start: StartRequest, *, token: str) -> Authorisation:
        body = {
            "id": str(start.authorisation_id),
            "instance_id": str(start.instance_id),
            "node_id": str(start.node_id),
            "gpu_count": start.gpu_count,
            "mode": start.mode,
        }
        response = await call(
            self._http, "POST", "/internal/authorisations", token=token, json=body
        )
        answer = _Answer.model_validate(response.json())
        return Authorisation(answer.id, answer.price_per_hour, answer.paid_until)


@dataclass
class FakeMarket:
    """Takes every start at a fixed price, or refuses with `refusal`. lost_answers: so many are
    taken and not answered."""

    price_per_hour: Decimal = Decimal("2.5000")
    paid_until: datetime | None = None
    refusal: DomainError | None = None
    lost_answers: int = 0
    asked: list[StartRequest] = field(default_factory=list)

    async def authorise(self, start: StartRequest, *, token: str) -> Authorisation:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(start)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable
        return Authorisation(start.authorisation_id, self.price_per_hour, self.paid_until)
