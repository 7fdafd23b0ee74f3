"""Composes the gateway: own pages first, everything under `/api/v1` to the service it names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import NoSuchAddress, RequestTooLarge, TooManyRequests
from gateway.limits import RateLimit
from gateway.proxy import BodyTooLarge, ClientGone, Proxy, UpstreamAway
from gateway.reference import Document, join, page
from gateway.routes import API, STREAMED_BODIES, service_for
from gateway.settings import GatewaySettings
from shared.cache import open_redis
from shared.errors import DomainError, Unauthenticated, Unavailable
from shared.http import open_client
from shared.ids import new_id
from shared.policy import Policy, check_policies, policy
from shared.problems import install_problem_handlers, refuse
from shared.tokens import JwksKeySource, KeySource, Verifier

log = structlog.get_logger(__name__)


def create_app(settings: GatewaySettings, *, key_source: KeySource | None = None) -> ASGIApp:
    """key_source: where token keys come from; auth's key set unless given."""
    proxy = Proxy(settings.upstreams, settings.idle_timeout_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = open_redis(settings.redis_url)
        async with proxy, open_client(settings.upstreams["auth"]) as auth:
            door = app.state.door
            door.limit = RateLimit(redis, settings.requests_per_minute)
            door.verifier = Verifier(key_source or JwksKeySource(auth))
            yield
        await redis.aclose()

    pages = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    install_problem_handlers(pages)
    _add_pages(pages, proxy, tuple(settings.upstreams))
    check_policies(pages)
    door = Door(pages, proxy, settings)
    pages.state.door = door
    return door


class Door:
    """Pure ASGI: the hot path of every API call."""

    verifier: Verifier
    limit: RateLimit

    def __init__(self, pages: ASGIApp, proxy: Proxy, settings: GatewaySettings) -> None:
        self._pages = pages
        self._proxy = proxy
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API):
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
        if service is None or service not in self._settings.upstreams:
            raise NoSuchAddress
        wait_s = await self.limit.wait_s(await self._caller(scope))
        if wait_s:
            raise TooManyRequests(wait_s=wait_s)
        most = self._settings.json_body_bytes
        unlimited = (scope["method"], scope["path"]) in STREAMED_BODIES
        try:
            await self._proxy.forward(
                service,
                scope,
                receive,
                send,
                request_id=request_id,
                most_body_bytes=None if unlimited else most,
            )
        except UpstreamAway as away:
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


def _add_pages(pages: FastAPI, proxy: Proxy, services: tuple[str, ...]) -> None:
    async def reference() -> Document:
        documents = {}
        for service in services:
            status, document = await proxy.get_json(service, "/openapi.json")
            if status == 200 and isinstance(document, dict):
                documents[service] = document
        return join(documents, "1")

    @pages.get("/healthz", **policy(Policy.PUBLIC))
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @pages.get("/readyz", **policy(Policy.PUBLIC))
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

    @pages.get("/api/openapi.json", **policy(Policy.PUBLIC))
    async def openapi() -> JSONResponse:
        try:
            return JSONResponse(await reference())
        except UpstreamAway as away:
            raise Unavailable from away

    @pages.get("/api/docs", **policy(Policy.PUBLIC))
    async def docs() -> HTMLResponse:
        try:
            return HTMLResponse(page(await reference()))
        except UpstreamAway as away:
            raise Unavailable from away
