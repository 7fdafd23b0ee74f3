"""Where each instance's apps are, as the scheduler says."""

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import NotFound, Unavailable
from shared.http import RemoteRefusal, ServiceToken, call

log = structlog.get_logger(__name__)

STALE_S = 60.0
MOST_KNOWN = 4096


class App(BaseModel):
    """path: what a browser opens, beneath the instance's root."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    path: str


class AppDoor(BaseModel):
    """The gateway's own view of the scheduler's answer. token: the app's, never the browser's."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instance_id: UUID
    account_id: UUID
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$", max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]
    token: Annotated[str, Field(repr=False)]
    running: bool
    apps: list[App]


@dataclass(frozen=True, slots=True)
class _Known:
    door: AppDoor | None
    at: float


class Directory:
    def __init__(
        self, scheduler: httpx.AsyncClient, token: ServiceToken, *, fresh_s: float
    ) -> None:
        """token: the gateway's own. fresh_s: how old an answer may be."""
        self.fresh_s = fresh_s
        self._scheduler = scheduler
        self._token = token
        self._known: dict[UUID, _Known] = {}
        self._asking: dict[UUID, asyncio.Task[AppDoor | None]] = {}

    async def find_as(self, instance_id: UUID, token: str) -> AppDoor:
        """Fresh, as the owner whose token it is. Raises RemoteRefusal, Unavailable."""
        door = await self._ask(instance_id, token)
        self._remember(instance_id, door)
        return door

    async def find(self, instance_id: UUID) -> AppDoor:
        """At most fresh_s old; STALE_S while the scheduler is away, so that its restart ends
        nobody's work. Raises NotFound, Unavailable."""
        known = self._known.get(instance_id)
        age = time.monotonic() - known.at if known is not None else float("inf")
        if known is None or age > self.fresh_s:
            try:
                known = self._remember(instance_id, await self._ask_once(instance_id))
            except Unavailable:
                if known is None or age > STALE_S:
                    raise
        if known.door is None:
            raise NotFound
        return known.door

    async def _ask_once(self, instance_id: UUID) -> AppDoor | None:
        """A page of an app asks for a hundred files at once; the scheduler is asked one time."""
        asking = self._asking.get(instance_id)
        if asking is None:
            asking = asyncio.create_task(self._ask_as_gateway(instance_id))
            self._asking[instance_id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(instance_id, None))
        return await asyncio.shield(asking)

    async def _ask_as_gateway(self, instance_id: UUID) -> AppDoor | None:
        try:
            return await self._ask(instance_id, await self._token.get())
        except RemoteRefusal as refusal:
            if refusal.status == 404:
                return None
            log.error("app_door_refused", instance_id=str(instance_id), code=refusal.code)
            raise Unavailable from refusal

    async def _ask(self, instance_id: UUID, token: str) -> AppDoor:
        path = f"/internal/instances/{instance_id}/app"
        answer = await call(self._scheduler, "GET", path, token=token)
        return AppDoor.model_validate_json(answer.content)

    def _remember(self, instance_id: UUID, door: AppDoor | None) -> _Known:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        known = _Known(door, time.monotonic())
        self._known[instance_id] = known
        return known
