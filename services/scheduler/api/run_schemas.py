"""What the market asks and is answered of runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.domain.runs import Running, RunStates

MOST_RUNS = 200


class RunningView(BaseModel):
    """for_s: it has run for so long at least."""

    authorisation_id: UUID
    instance_id: UUID
    for_s: float


class RunningPage(BaseModel):
    items: list[RunningView]

    @classmethod
    def of(cls, found: Sequence[Running]) -> Self:
        return cls(items=[RunningView.model_validate(one, from_attributes=True) for one in found])


class RunsAsked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    authorisations: Annotated[list[UUID], Field(max_length=MOST_RUNS)]


class EndedView(BaseModel):
    """stopped_at: by the host's clock. ago_s: since the scheduler wrote it down."""

    authorisation_id: UUID
    stopped_at: datetime
    ago_s: float


class RunStatesView(BaseModel):
    """standing: runs, or its end is yet to be proven."""

    standing: list[UUID]
    ended: list[EndedView]

    @classmethod
    def of(cls, found: RunStates) -> Self:
        return cls.model_validate(found, from_attributes=True)
