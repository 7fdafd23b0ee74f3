"""Runs as the market counts them: one for each authorisation."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Running:
    """for_s: at least so long by our clock, since its start was told."""

    authorisation_id: UUID
    instance_id: UUID
    for_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """ago_s: since that was written down, by our clock; stopped_at is by the host's."""

    authorisation_id: UUID
    stopped_at: datetime
    ago_s: float


@dataclass(frozen=True, slots=True)
class RunStates:
    """standing: their end is yet to be told. What is in neither is not known here."""

    standing: list[UUID]
    ended: list[Ended]
