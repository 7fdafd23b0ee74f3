"""Server-sent events, for as long as the reader stays and their login lasts."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.auth.tailing import Heard, Tail, Tails

HEARTBEAT_S = 15.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class TailStream(Response):
    """`fact`: one envelope. `dropped`: how many the reader was too slow for. `over`: the login has
    ended. A comment every HEARTBEAT_S. may_stay: asked as often."""

    media_type = "text/event-stream"

    def __init__(
        self, tails: Tails, patterns: Sequence[str], may_stay: Callable[[], Awaitable[bool]]
    ) -> None:
        super().__init__()
        self._tails = tails
        self._patterns = patterns
        self._may_stay = may_stay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._tails.open(self._patterns) as tail:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            telling = asyncio.create_task(self._tell(tail, send))
            leaving = asyncio.create_task(_gone(receive))
            try:
                await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (telling, leaving):
                    task.cancel()
                await asyncio.gather(telling, leaving, return_exceptions=True)
            if not telling.cancelled():
                telling.result()

    async def _tell(self, tail: Tail, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await _write(send, ": listening\n\n")
        asked_at = loop.time()
        while True:
            heard = await tail.read(max(0.0, asked_at + HEARTBEAT_S - loop.time()))
            if words := _as_events(heard):
                await _write(send, words)
            if loop.time() - asked_at >= HEARTBEAT_S:
                asked_at = loop.time()
                if not await self._may_stay():
                    break
                await _write(send, ": still here\n\n")
        await _write(send, "event: over\ndata: {}\n\n")
        await send({"type": "http.response.body", "body": b""})


def _as_events(heard: Heard) -> str:
    found = []
    if heard.dropped:
        found.append(f"event: dropped\ndata: {json.dumps({'count': heard.dropped})}\n\n")
    found += [
        f"event: fact\nid: {event.id}\ndata: {event.model_dump_json()}\n\n"
        for event in heard.events
    ]
    return "".join(found)


async def _write(send: Send, words: str) -> None:
    await send({"type": "http.response.body", "body": words.encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
