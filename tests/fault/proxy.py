"""A Unix socket before another, on which a test cuts, hangs and heals: in front of PostgreSQL or of
Docker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy:
    """cuts: how many connections were cut at a pattern."""

    upstream: Path
    cuts: int = 0
    _pattern: bytes = b""
    _when: Literal["request", "answer"] = "request"
    _left: int = 0
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._flows.set()

    def cut_at(self, pattern: bytes, when: Literal["request", "answer"], *, times: int = 1) -> None:
        """The next connections whose client says this end: `request`: before it gets through;
        `answer`: after it got through and was answered, before the client hears the answer."""
        self._pattern, self._when, self._left = pattern, when, times

    def hang(self) -> None:
        """Connections are taken, and nothing gets through."""
        self._flows.clear()

    def heal(self) -> None:
        self._left = 0
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self.upstream))
        except OSError:
            writer.close()
            return
        link = _Link(self, (reader, writer), (up_reader, up_writer))
        await link.run()


class _Link:
    def __init__(self, proxy: Proxy, client: Streams, server: Streams) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._deaf = False

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._ask()), asyncio.create_task(self._answer())]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for _, writer in (self._client, self._server):
            writer.close()

    async def _ask(self) -> None:
        proxy = self._proxy
        with suppress(OSError):
            while data := await self._client[0].read(1 << 16):
                await proxy._flows.wait()
                if proxy._left > 0 and proxy._pattern in data:
                    proxy._left -= 1
                    proxy.cuts += 1
                    if proxy._when == "request":
                        return
                    self._deaf = True
                self._server[1].write(data)
                await self._server[1].drain()

    async def _answer(self) -> None:
        with suppress(OSError):
            while data := await self._server[0].read(1 << 16):
                await self._proxy._flows.wait()
                if self._deaf:
                    return
                self._client[1].write(data)
                await self._client[1].drain()


@asynccontextmanager
async def open_proxy(listen: Path, upstream: Path) -> AsyncIterator[Proxy]:
    proxy = Proxy(upstream)
    server = await asyncio.start_unix_server(proxy.serve, str(listen))
    try:
        yield proxy
    finally:
        proxy.heal()
        server.close()
