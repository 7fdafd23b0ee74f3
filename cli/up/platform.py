"""Runs every room in one process: services on Unix sockets, the gateway on a TCP port, an agent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from agent.main import Agent
from agent.settings import AgentSettings
from cli.up.home import SERVICES
from cli.up.postgres import Postgres
from cli.up.wiring import BUS, PlatformOptions, Wiring
from gateway.main import SERVER_OPTIONS as GATEWAY_SERVER_OPTIONS
from shared.bus import memory_bus

log = structlog.get_logger(__name__)

STOP_S = 5
START_TIMEOUT_S = 60
AGENT_PAUSE_S = 2.0

Say = Callable[[str], None]


class StartFailed(Exception):
    """A part did not come up; its reason is in the log."""


class _Server(uvicorn.Server):
    """Leaves signals to the one who composes."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's own is untyped here
        yield


@asynccontextmanager
async def running(options: PlatformOptions, say: Say) -> AsyncIterator[None]:
    """Everything up and answering inside the block; everything stopped after it, but containers."""
    home = options.home
    async with AsyncExitStack() as stack:
        postgres = Postgres(home.postgres)
        if not (home.postgres / "data").exists():
            say("Making the database …")
        await postgres.start()
        stack.push_async_callback(postgres.stop)
        stack.push_async_callback(_stop, asyncio.create_task(postgres.keep_up()))
        for service in SERVICES:
            await postgres.create_database(service)
        bus = memory_bus(BUS)
        stack.push_async_callback(bus.close)
        bus.hold()
        wiring = Wiring(options, postgres.url)
        for name, app in wiring.services().items():
            await _serve(stack, app, uds=str(home.socket(name)))
        # Everyone listens now; before the first one stops listening it is held again.
        bus.flow()
        stack.callback(bus.hold)
        agent = asyncio.create_task(_run_agent(wiring.agent()))
        stack.push_async_callback(_stop, agent)
        where: dict[str, Any] = {"host": options.address, "port": options.port}
        await _serve(stack, wiring.gateway(), **where, **GATEWAY_SERVER_OPTIONS)
        yield


async def _serve(stack: AsyncExitStack, app: ASGIApp, **where: Any) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        **where,
    )
    server = _Server(config)
    task = asyncio.create_task(_served(server, where))

    async def stop() -> None:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)


async def _served(server: uvicorn.Server, where: Mapping[str, Any]) -> None:
    """Raises StartFailed where uvicorn would end the process."""
    try:
        await server.serve()
    except SystemExit as error:
        name = where.get("uds") or f"{where.get('host')}:{where.get('port')}"
        raise StartFailed(f"{name} did not start: see platform.log in the state folder") from error


async def _run_agent(settings: AgentSettings) -> None:
    """An agent that dies is started again: its state is in labels and journals."""
    while True:
        try:
            await Agent(settings).run()
        except Exception:
            log.exception("agent_died")
        await asyncio.sleep(AGENT_PAUSE_S)


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
