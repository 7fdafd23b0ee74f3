"""The scheduler's word how runs stand, for what its facts may not have told."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import httpx
from pydantic import BaseModel

from shared.errors import Unavailable
from shared.http import ServiceToken, call

# A page, and what is asked about at once.
MOST_RUNS = 200


@dataclass(frozen=True, slots=True)
class RunEnd:
    """ago_s: since the scheduler wrote it down, by its clock; stopped_at is by the host's."""

    stopped_at: datetime
    ago_s: float


@dataclass(frozen=True, slots=True)
class RunStates:
    """ended: by authorisation. What is in neither the scheduler does not know."""

    standing: frozenset[UUID]
    ended: dict[UUID, RunEnd]


@dataclass(frozen=True, slots=True)
class Running:
    """for_s: for so long at least."""

    authorisation_id: UUID
    instance_id: UUID
    for_s: float


class SchedulerClient(Protocol):
    async def states_of(self, authorisations: Collection[UUID]) -> RunStates:
        """Of MOST_RUNS at most. Raises Unavailable."""
        ...

    async def running(self, after: UUID | None) -> list[Running]:
        """The next page by authorisation; a short one is the last. Raises Unavailable."""
        ...


class _Ended(BaseModel):
    authorisation_id: UUID
    stopped_at: datetime
    ago_s: float


class _States(BaseModel):
    standing: list[UUID]
    ended: list[_Ended]


class _Running(BaseModel):
    authorisation_id: UUID
    instance_id: UUID
    for_s: float


class _Page(BaseModel):
    items: list[_Running]


class HttpScheduler:
    def __init__(self, http: httpx.AsyncClient, token: ServiceToken) -> None:
        self._http = http
        self._token = token

    async def states_of(self, authorisations: Collection[UUID]) -> RunStates:
        body = {"authorisations": [str(each) for each in authorisations]}
        token = await self._token.get()
        response = await call(self._http, "POST", "/internal/runs/states", token=token, json=body)
        said = _States.model_validate(response.json())
        return RunStates(
            frozenset(said.standing),
            {each.authorisation_id: RunEnd(each.stopped_at, each.ago_s) for each in said.ended},
        )

    async def running(self, after: UUID | None) -> list[Running]:
        params = {"size": str(MOST_RUNS)} | ({"after": str(after)} if after is not None else {})
        token = await self._token.get()
        response = await call(self._http, "GET", "/internal/runs", token=token, params=params)
        items = _Page.model_validate(response.json()).items
        return [Running(each.authorisation_id, each.instance_id, each.for_s) for each in items]


@dataclass
class FakeScheduler:
    """What runs and what ended, as a test says; away: it does not answer."""

    runs: list[Running] = field(default_factory=list)
    ended: dict[UUID, RunEnd] = field(default_factory=dict)
    away: bool = False

    async def states_of(self, authorisations: Collection[UUID]) -> RunStates:
        if self.away:
            raise Unavailable
        asked = set(authorisations)
        return RunStates(
            frozenset(run.authorisation_id for run in self.runs) & asked,
            {id_: end for id_, end in self.ended.items() if id_ in asked},
        )

    async def running(self, after: UUID | None) -> list[Running]:
        if self.away:
            raise Unavailable
        found = sorted(self.runs, key=lambda run: run.authorisation_id)
        later = [run for run in found if after is None or run.authorisation_id > after]
        return later[:MOST_RUNS]
