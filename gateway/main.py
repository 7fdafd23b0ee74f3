"""Composes the gateway: apps of instances, own calls and pages, and everything else under
`/api/v1` to the service it names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import explaining, health, opening
from gateway.apps import AppDoors, ask_of
from gateway.apps import refuse as refuse_to_browser
from gateway.directory import Directory
from gateway.errors import NoSuchAddress, RequestTooLarge, TooManyRequests
from gateway.explaining import Explanations
from gateway.headers import to_service
from gateway.health import Healths
from gateway.limits import RateLimit
from gateway.logins import Logins
from gateway.metrics import RATE_LIMITED, UPSTREAM_AWAY, route_of, timing_head
from gateway.opening import Opening
from gateway.origins import Origins
from gateway.proxy import BodyTooLarge, ClientGone, Proxy, UpstreamAway, forward
from gateway.reference import Document, join, page
from gateway.routes import API, APPS, OWN_CALLS, STREAMED_BODIES, service_for
from gateway.settings import SOCKET_MESSAGE_BYTES, GatewaySettings
from gateway.tickets import Tickets
from shared.cache import open_redis
from shared.errors import DomainError, Unauthenticated, Unavailable
from shared.events.asyncapi import Heard
from shared.events.asyncapi import document as describe_events
from shared.http import FetchedServiceToken, open_client
from shared.ids import new_id
from shared.metrics import serve_metrics
from shared.policy import Policy, check_policies, policy
from shared.problems import install_problem_handlers, refuse
from shared.revocation import Revocations, RevocationWatch
from shared.telemetry_http import Watched
from shared.tokens import JwksKeySource, KeySource, Verifier
from shared.worker import stop

log = structlog.get_logger(__name__)

_HEARD = TypeAdapter(list[Heard])

# What the gateway needs of uvicorn, beside where to listen. A ping may wait behind a large message
# on a slow line.
SERVER_OPTIONS = {
    "ws_max_size": SOCKET_MESSAGE_BYTES,
    "ws_per_message_deflate": False,
    "ws_ping_interval": 30.0,
    "ws_ping_timeout": 120.0,
}


def create_app(settings: GatewaySettings, *, key_source: KeySource | None = None) -> ASGIApp:
    """key_source: where token keys come from; auth's key set unless given."""
    proxy = Proxy(settings.upstreams, settings.idle_timeout_s, settings.app_idle_timeout_s)
    origins = Origins(settings.apps_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if settings.metrics_address:
                stack.callback(serve_metrics(settings.metrics_address))
            redis = open_redis(settings.redis_url)
            stack.push_async_callback(redis.aclose)
            await stack.enter_async_context(proxy)
            clients = {
                name: await stack.enter_async_context(open_client(url))
                for name, url in settings.upstreams.items()
            }
            auth = clients["auth"]
            token = FetchedServiceToken(auth, "gateway", settings.service_secret)
            door, limit = app.state.door, RateLimit(redis, settings.requests_per_minute)
            door.limit = limit
            ended = Revocations()
            watch = asyncio.create_task(RevocationWatch(ended, redis, auth, token).run())
            stack.push_async_callback(stop, watch)
            keys = key_source or JwksKeySource(auth)
            door.verifier = app.state.verifier = Verifier(keys, ended)
            tickets, directory = Tickets(redis), None
            if "scheduler" in settings.upstreams:
                directory = Directory(clients["scheduler"], token, fresh_s=settings.app_recheck_s)
                logins = Logins(ended, auth, token)
                door.apps = AppDoors(proxy, directory, tickets, limit, origins, logins)
            app.state.opening = Opening(directory, tickets, origins)
            app.state.healths = Healths(clients, token, redis)
            app.state.explanations = Explanations(proxy, tuple(settings.upstreams))
            yield

    pages = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    install_problem_handlers(pages)
    pages.include_router(opening.router)
    pages.include_router(explaining.router)
    pages.include_router(health.router)
    _add_pages(pages, proxy, tuple(settings.upstreams))
    check_policies(pages)
    door = Door(pages, proxy, origins, settings)
    pages.state.door = door
    return Watched(door, "gateway", route_of, begins_at=API)


async def _no_apps(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse_to_browser(scope, NoSuchAddress(), receive, send)


class Door:
    """Pure ASGI: the hot path of every API call. apps: serves nothing where no scheduler is."""

    verifier: Verifier
    limit: RateLimit
    apps: ASGIApp

    def __init__(
        self, pages: ASGIApp, proxy: Proxy, origins: Origins, settings: GatewaySettings
    ) -> None:
        self.apps = _no_apps
        self._pages = pages
        self._proxy = proxy
        self._origins = origins
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._pages(scope, receive, send)
        path = scope["path"]
        is_for_apps = path.startswith(APPS)
        # One host of the two never serves what is the other's.
        if self._origins.apart and is_for_apps != self._origins.is_for_apps(ask_of(scope)):
            return await _no_apps(scope, receive, send)
        if is_for_apps:
            return await self.apps(scope, receive, send)
        if scope["type"] != "http" or not path.startswith(API):
            return await self._pages(scope, receive, send)
        request_id = str(new_id())
        scope.setdefault("state", {})["request_id"] = request_id
        try:
            await self._carry(scope, receive, send, request_id)
        except ClientGone:
            return None
        except DomainError as refusal:
            await refuse(Request(scope), refusal)(scope, receive, send)
        return None

    async def _carry(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        service = service_for(scope["raw_path"].decode("latin-1"))
        is_own = OWN_CALLS.fullmatch(scope["path"]) is not None
        if service is None or not (is_own or service in self._settings.upstreams):
            raise NoSuchAddress
        wait_s = await self.limit.wait_s(await self._caller(scope))
        if wait_s:
            RATE_LIMITED.inc()
            raise TooManyRequests(wait_s=wait_s)
        if is_own:
            return await self._pages(scope, receive, send)
        most = self._settings.json_body_bytes
        unlimited = (scope["method"], scope["path"]) in STREAMED_BODIES
        try:
            await forward(
                self._proxy.service(service),
                scope,
                receive,
                timing_head(service, send),
                headers=to_service(scope, request_id),
                most_body_bytes=None if unlimited else most,
            )
        except UpstreamAway as away:
            UPSTREAM_AWAY.labels(service).inc()
            log.warning("upstream_away", service=service, error=repr(away.__cause__))
            raise Unavailable from away
        except BodyTooLarge as too_large:
            raise RequestTooLarge(most_bytes=most) from too_large

    async def _caller(self, scope: Scope) -> str:
        """Whose requests are counted. Raises Unauthenticated for a token that is no good."""
        for key, value in scope["headers"]:
            if key == b"authorization":
                scheme, _, token = value.decode("latin-1").partition(" ")
                if scheme.lower() != "bearer":
                    raise Unauthenticated
                return str((await self.verifier.verify(token)).id)
        client = scope.get("client")
        return client[0] if client else "unknown"


async def _heard_by(proxy: Proxy, service: str) -> list[Heard]:
    """Raises UpstreamAway."""
    status, listed = await proxy.get_json(service, "/subscriptions.json")
    if status != 200:
        raise UpstreamAway(service)
    return _HEARD.validate_python(listed)


def _add_pages(pages: FastAPI, proxy: Proxy, services: tuple[str, ...]) -> None:
    async def reference() -> Document:
        documents = {"gateway": pages.openapi()}
        for service in services:
            status, document = await proxy.get_json(service, "/openapi.json")
            if status == 200 and isinstance(document, dict):
                documents[service] = document
        return join(documents, "1")

    @pages.get("/healthz", include_in_schema=False, **policy(Policy.PUBLIC))
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @pages.get("/readyz", include_in_schema=False, **policy(Policy.PUBLIC))
    async def readyz() -> JSONResponse:
        async def is_ready(service: str) -> bool:
            try:
                status, _ = await proxy.get_json(service, "/readyz")
            except UpstreamAway:
                return False
            return status == 200

        ready = await asyncio.gather(*(is_ready(service) for service in services))
        waiting = [name for name, answers in zip(services, ready, strict=True) if not answers]
        if waiting:
            return JSONResponse({"status": "waiting", "for": waiting}, 503)
        return JSONResponse({"status": "ready"})

    @pages.get("/api/openapi.json", include_in_schema=False, **policy(Policy.PUBLIC))
    async def openapi() -> JSONResponse:
        try:
            return JSONResponse(await reference())
        except UpstreamAway as away:
            raise Unavailable from away

    @pages.get("/api/asyncapi.json", include_in_schema=False, **policy(Policy.PUBLIC))
    async def asyncapi() -> JSONResponse:
        try:
            heard = {service: await _heard_by(proxy, service) for service in services}
        except UpstreamAway as away:
            raise Unavailable from away
        return JSONResponse(describe_events(heard, "1"))

    @pages.get("/api/docs", include_in_schema=False, **policy(Policy.PUBLIC))
    async def docs() -> HTMLResponse:
        try:
            return HTMLResponse(page(await reference()))
        except UpstreamAway as away:
            raise Unavailable from away
