"""Composes every room into one process: services on Unix sockets, the gateway on one TCP port.

The rooms do not know it: they get URLs, as in the split shape.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from cli.up.home import SERVICES, Home
from cli.up.postgres import Postgres
from gateway.main import create_app as create_gateway
from gateway.settings import GatewaySettings
from services.auth.main import create_app as create_auth
from services.auth.settings import AuthSettings
from services.storage.main import create_app as create_storage
from services.storage.settings import StorageSettings
from shared.bus import open_bus

BUS = REDIS = "memory://chusuan"
STOP_S = 5
START_TIMEOUT_S = 60

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PlatformOptions:
    """address, port: where the gateway listens and users reach it."""

    home: Home
    address: str
    port: int


class StartFailed(Exception):
    """A part did not come up; its reason is in the log."""


class _Server(uvicorn.Server):
    """Leaves signals to the one who composes."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's own is untyped here
        yield


class Platform:
    def __init__(self, options: PlatformOptions, *, say: Say) -> None:
        self._options = options
        self._home = options.home
        self._say = say

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything up and answering inside the block; everything stopped after it."""
        async with AsyncExitStack() as stack:
            postgres = Postgres(self._home.postgres)
            if not (self._home.postgres / "data").exists():
                self._say("Making the database …")
            await postgres.start()
            stack.push_async_callback(postgres.stop)
            for service in SERVICES:
                await postgres.create_database(service)
            bus = open_bus(BUS)
            stack.push_async_callback(bus.close)
            for name, app in self._services(postgres).items():
                await self._serve(stack, app, uds=str(self._home.socket(name)))
            options = self._options
            await self._serve(stack, self._gateway(), host=options.address, port=options.port)
            yield

    def _services(self, postgres: Postgres) -> dict[str, ASGIApp]:
        home = self._home

        def shared_settings(service: str) -> dict[str, Any]:
            return {
                "database_url": postgres.url(service),
                "bus_url": BUS,
                "redis_url": REDIS,
                "auth_url": self._url("auth"),
                "service_secret": SecretStr(home.secret(f"service-{service}")),
            }

        auth = AuthSettings(
            **shared_settings("auth"),
            signing_key_file=home.secrets / "signing-key.pem",
            first_operator_password_file=home.operator_password,
            service_secrets={name: SecretStr(home.secret(f"service-{name}")) for name in SERVICES},
        )
        storage = StorageSettings(**shared_settings("storage"), root=home.storage)
        return {"auth": create_auth(auth), "storage": create_storage(storage)}

    def _gateway(self) -> ASGIApp:
        return create_gateway(
            GatewaySettings(
                upstreams={service: self._url(service) for service in SERVICES}, redis_url=REDIS
            )
        )

    def _url(self, service: str) -> str:
        return f"unix:{self._home.socket(service)}"

    async def _serve(self, stack: AsyncExitStack, app: ASGIApp, **where: Any) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
            **where,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve())

        async def stop() -> None:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(stop)
        async with asyncio.timeout(START_TIMEOUT_S):
            while not server.started:
                if task.done():
                    task.result()
                    raise StartFailed(f"{where} did not start: see the log")
                await asyncio.sleep(0.01)


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
