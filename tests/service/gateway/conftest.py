"""A gateway before a scheduler and an app that the test plays, all on real sockets."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import websockets
from pydantic import SecretStr
from redis.asyncio import Redis

from gateway.main import SERVER_OPTIONS, create_app
from gateway.settings import GatewaySettings
from shared.cache import open_redis
from shared.ids import new_id
from tests.identity import TestIdentity
from tests.service.gateway.playing import Instance, TenantApp, play_auth, play_scheduler
from tests.service.gateway.serving import free_port, served


@dataclass
class Doorway:
    http: httpx.AsyncClient
    identity: TestIdentity
    instances: dict[UUID, Instance]
    app: TenantApp
    redis: Redis
    ended: dict[UUID, bool]
    port: int
    app_port: int

    def new_instance(self, account_id: UUID | None = None) -> Instance:
        instance = Instance(account_id or new_id(), self.app_port)
        self.instances[instance.instance_id] = instance
        return instance

    async def ask(self, instance: Instance, app: str = "jupyterlab", **who: Any) -> httpx.Response:
        headers = self.identity.headers(who.pop("account_id", instance.account_id), **who)
        path = f"/api/v1/instances/{instance.instance_id}/apps/{app}"
        return await self.http.post(path, headers=headers)

    async def link(self, instance: Instance) -> str:
        answer = await self.ask(instance)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"])

    async def opened(self, instance: Instance) -> str:
        """The session's Cookie header."""
        answer = await self.http.get(await self.link(instance))
        assert answer.status_code == 303, answer.text
        return answer.headers["set-cookie"].partition(";")[0]

    def path(self, instance: Instance, rest: str = "") -> str:
        return f"/apps/{instance.instance_id}/{rest}"

    async def get(self, instance: Instance, rest: str, cookie: str, **more: Any) -> httpx.Response:
        headers = {"cookie": cookie, **more.pop("headers", {})}
        return await self.http.get(self.path(instance, rest), headers=headers, **more)

    def socket(self, instance: Instance, rest: str, cookie: str, **more: Any) -> websockets.connect:
        url = f"ws://127.0.0.1:{self.port}{self.path(instance, rest)}"
        more.setdefault("origin", f"http://127.0.0.1:{self.port}")
        return websockets.connect(
            url, additional_headers={"cookie": cookie}, max_size=None, proxy=None, **more
        )


OpenDoorway = Callable[..., AbstractAsyncContextManager[Doorway]]


@pytest.fixture
def open_doorway(tmp_path: Path) -> OpenDoorway:
    @contextlib.asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Doorway]:
        identity, instances, tenant = TestIdentity(), dict[UUID, Instance](), TenantApp()
        ended = dict[UUID, bool]()
        sockets = {name: tmp_path / f"{name}.sock" for name in ("auth", "scheduler")}
        redis_url = f"memory://{new_id()}"
        settings = GatewaySettings(
            **{
                "upstreams": {name: f"unix:{path}" for name, path in sockets.items()},
                "service_secret": SecretStr("x" * 32),
                "redis_url": redis_url,
                "app_recheck_s": 0.05,
                **changes,
            }
        )
        port, app_port = free_port(), free_port()
        async with contextlib.AsyncExitStack() as stack:
            gateway = create_app(settings, key_source=identity)
            servers = served(
                (play_auth(identity, ended), {"uds": str(sockets["auth"])}),
                (play_scheduler(identity, instances), {"uds": str(sockets["scheduler"])}),
                (tenant.app(), {"port": app_port, "ws_max_size": 1 << 30}),
                (gateway, {"port": port, "timeout_graceful_shutdown": 1, **SERVER_OPTIONS}),
            )
            await stack.enter_async_context(servers)
            redis = open_redis(redis_url)
            stack.push_async_callback(redis.aclose)
            client = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                trust_env=False,
                # What a browser would keep, the tests send themselves.
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            )
            http = await stack.enter_async_context(client)
            yield Doorway(http, identity, instances, tenant, redis, ended, port, app_port)

    return start


@pytest.fixture
async def doorway(open_doorway: OpenDoorway) -> AsyncIterator[Doorway]:
    async with open_doorway() as opened:
        yield opened
