"""Real servers for the gateway's tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

Where = dict[str, Any]


@contextlib.asynccontextmanager
async def served(*apps: tuple[ASGIApp, Where]) -> AsyncIterator[None]:
    """Each app and where, as uvicorn takes it; started in this order, ended together."""
    running = []
    for app, where in apps:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, **where))
        task = asyncio.create_task(server._serve())
        running.append((server, task))
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0)
    yield
    for server, _ in running:
        server.should_exit = True
    await asyncio.gather(*(task for _, task in running))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
