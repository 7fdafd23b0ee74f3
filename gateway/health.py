"""`GET /api/v1/health`: how every part is, for operators and `chusuan doctor`."""

import asyncio
from collections.abc import Mapping

import httpx
import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from shared.errors import Unavailable
from shared.health import ServiceHealth, redis_answers
from shared.http import RemoteRefusal, ServiceToken, call
from shared.policy import Policy, policy

log = structlog.get_logger(__name__)

router = APIRouter(tags=["gateway"])


class PartHealth(BaseModel):
    """health: None when it does not answer."""

    service: str
    health: ServiceHealth | None


class PlatformHealth(BaseModel):
    """redis_alive: as the gateway sees it."""

    redis_alive: bool
    services: list[PartHealth]


class Healths:
    """Asks every service as the gateway; `app.state.healths`."""

    def __init__(
        self, clients: Mapping[str, httpx.AsyncClient], token: ServiceToken, redis: Redis
    ) -> None:
        self._clients = clients
        self._token = token
        self._redis = redis

    async def ask(self) -> PlatformHealth:
        parts = await asyncio.gather(*(self._ask(name) for name in self._clients))
        return PlatformHealth(redis_alive=await redis_answers(self._redis), services=list(parts))

    async def _ask(self, service: str) -> PartHealth:
        try:
            token = await self._token.get()
            answer = await call(self._clients[service], "GET", "/internal/health", token=token)
            health = ServiceHealth.model_validate_json(answer.content)
        except (Unavailable, RemoteRefusal, ValidationError) as error:
            log.warning("health_unknown", service=service, error=repr(error))
            return PartHealth(service=service, health=None)
        return PartHealth(service=service, health=health)


@router.get("/api/v1/health", summary="How every part is", **policy(Policy.OPERATOR))
async def show_health(request: Request) -> PlatformHealth:
    """Database and migration, bus, Redis, events not yet told, dead letters and workers of each
    service, with its own figures. A part that does not answer has `health: null`."""
    healths: Healths = request.app.state.healths
    return await healths.ask()
