"""The runtime every service stands on: `create_service_app` wires it, `main.py` fills it.

Start: migrate, connect, subscribe, run relay and workers. Stop: the reverse.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import httpx
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.bus import Bus, Subscription, leave_bus, open_bus
from shared.cache import open_redis
from shared.crashing import crash_point, doing, within
from shared.database import Database
from shared.dead_letters import DeadLetters
from shared.event_routes import event_routes
from shared.events.asyncapi import Heard
from shared.health import Pulse, ServiceHealth, newest_migration
from shared.http import FetchedServiceToken, ServiceToken, open_client
from shared.ids import new_id
from shared.migration import upgrade
from shared.outbox import Relay, clearing
from shared.policy import Policy, check_policies, policy
from shared.problems import ProblemKind, install_problem_handlers, problem_kinds
from shared.retelling import Retelling
from shared.revocation import Revocations, RevocationWatch
from shared.settings import ServiceSettings
from shared.telemetry_http import Watched
from shared.text import Language, preferred_language
from shared.tokens import JwksKeySource, KeySource, Verifier
from shared.worker import Worker, stop

log = structlog.get_logger(__name__)

BUS_ANSWERS_WITHIN_S = 2.0


@dataclass(slots=True)
class Runtime:
    """What a running service has at hand; `app.state.runtime`. `setup` gives the pulse the figures
    of its own."""

    name: str
    database: Database
    bus: Bus
    redis: Redis
    auth: httpx.AsyncClient
    service_token: ServiceToken
    pulse: Pulse
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    subscriptions: list[Subscription] = field(default_factory=list)

    def client(self, url: str) -> httpx.AsyncClient:
        """A client of another service, closed with this one."""
        http = open_client(url)
        self.stack.push_async_callback(http.aclose)
        return http


SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

Setup = Callable[[FastAPI, Runtime], Awaitable[tuple[Sequence[Subscription], Sequence[Worker]]]]


def create_service_app(
    name: str,
    settings: ServiceSettings,
    *,
    migrations: Path,
    routers: Sequence[APIRouter],
    setup: Setup,
    key_source: KeySource | None = None,
    revocations: Revocations | None = None,
) -> FastAPI:
    """setup: builds clients and use-case dependencies on `app.state`, names consumers and workers.
    key_source: where token keys come from; auth's key set unless given (auth gives its own).
    revocations: kept by the giver (auth alone); followed in Redis and at auth unless given.
    Raises RouteWithoutPolicy.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            runtime = _open_runtime(name, settings, migrations, stack)
            app.state.runtime = runtime
            ended = Revocations() if revocations is None else revocations
            app.state.verifier = Verifier(key_source or JwksKeySource(runtime.auth), ended)
            await upgrade(runtime.database, migrations)
            subscriptions, workers = await setup(app, runtime)
            runtime.subscriptions.extend(subscriptions)
            kept = timedelta(seconds=settings.outbox_kept_s)
            app.state.dead_letters = DeadLetters(name, runtime.database, subscriptions)
            app.state.retelling = Retelling(name, runtime.database, kept)
            for subscription in subscriptions:
                await runtime.bus.subscribe(subscription)
                stack.push_async_callback(runtime.bus.unsubscribe, subscription.queue)
            own = (clearing(runtime.database, name, kept), runtime.pulse.worker())
            runtime.pulse.workers = workers = [*workers, *own]
            loops = [(f"{name}.outbox", Relay(runtime.database, runtime.bus, name).run())]
            loops += [(worker.name, worker.run(runtime.database)) for worker in workers]
            if revocations is None:
                loops.append((f"{name}.revocations", _watch_of(ended, runtime).run()))
            for use, loop in loops:
                stack.push_async_callback(stop, asyncio.create_task(within(use, loop)))
            yield

    app = FastAPI(
        title=f"Chusuan {name}",
        version="1",
        lifespan=lifespan,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    install_problem_handlers(app)
    app.include_router(_own_router())
    app.include_router(event_routes(name))
    for router in routers:
        app.include_router(router)
    app.add_middleware(RequestContext, service=name)
    app.add_middleware(Watched, service=name)
    check_policies(app)
    return app


def _open_runtime(
    name: str, settings: ServiceSettings, migrations: Path, stack: AsyncExitStack
) -> Runtime:
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    stack.push_async_callback(database.close)
    redis = open_redis(settings.redis_url)
    stack.push_async_callback(redis.aclose)
    auth = open_client(settings.auth_url)
    stack.push_async_callback(auth.aclose)
    bus = open_bus(settings.bus_url, settings.broker_management_url)
    stack.push_async_callback(leave_bus, bus)
    return Runtime(
        name=name,
        database=database,
        bus=bus,
        redis=redis,
        auth=auth,
        service_token=FetchedServiceToken(auth, name, settings.service_secret),
        pulse=Pulse(name, database, bus, redis, newest_migration(migrations)),
        stack=stack,
    )


def _watch_of(ended: Revocations, runtime: Runtime) -> RevocationWatch:
    return RevocationWatch(ended, runtime.redis, runtime.auth, runtime.service_token)


def _operation_id(route: APIRoute) -> str:
    return route.name


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    runtime: Runtime = request.app.state.runtime
    async with runtime.database.transaction() as session:
        yield session


# scope="function": the commit comes before the answer leaves, so a 2xx never lies.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


def get_language(request: Request) -> Language:
    return preferred_language(request.headers.get("accept-language"))


CallerLanguage = Annotated[Language, Depends(get_language)]


def _own_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz", **policy(Policy.PUBLIC))
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", **policy(Policy.PUBLIC))
    async def readyz(request: Request) -> JSONResponse:
        runtime: Runtime = request.app.state.runtime
        try:
            async with runtime.database.transaction() as session:
                await session.execute(text("SELECT 1"))
        except OSError:
            return JSONResponse({"status": "waiting", "for": "database"}, 503)
        # Word for whoever watches: requests are still served, and events wait in the outbox.
        if not await runtime.bus.alive(BUS_ANSWERS_WITHIN_S):
            return JSONResponse({"status": "waiting", "for": "bus"}, 503)
        return JSONResponse({"status": "ready"})

    @router.get("/internal/health", **policy(Policy.SERVICE))
    async def health(request: Request) -> ServiceHealth:
        runtime: Runtime = request.app.state.runtime
        return await runtime.pulse.take()

    @router.get("/problems.json", **policy(Policy.PUBLIC))
    async def problems() -> list[ProblemKind]:
        return problem_kinds()

    @router.get("/subscriptions.json", **policy(Policy.PUBLIC))
    async def subscriptions(request: Request) -> list[Heard]:
        runtime: Runtime = request.app.state.runtime
        return [Heard.of(subscription) for subscription in runtime.subscriptions]

    @router.get("/metrics", **policy(Policy.PUBLIC))
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


class RequestContext:
    """Pure ASGI: gives each request an id and a language for logs and onward calls."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")[:64]
        if not request_id.replace("-", "").isalnum():
            request_id = str(new_id())
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["method"] not in SAFE_METHODS:
                    crash_point("reply", of_use=True)
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        language = headers.get(b"accept-language", b"").decode("latin-1")[:100]
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id, language=language),
            doing(lambda: f"{self._service}.{getattr(scope.get('route'), 'name', 'unknown')}"),
        ):
            await self._app(scope, receive, send_with_id)
            log.debug(
                "request",
                service=self._service,
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(time.monotonic() - started, 4),
            )
        return None
