"""Watching facts: only facts, nobody waits, and nothing is left behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.auth import tailing
from services.auth.api import tail_stream
from shared.app import Runtime
from shared.bus import MemoryBus
from shared.clock import utc_now
from shared.events import Envelope, Payload
from shared.events.agent import ImagesWanted
from shared.events.auth import AccountEnabled
from shared.events.market import WalletExhausted
from shared.events.scheduler import UsageProven
from shared.ids import new_id
from tests.service.auth.conftest import House, Json, Opener
from tests.service.gateway.serving import free_port, served

TAIL = "/api/v1/events/tail"


class Watcher:
    """Reads a stream of server-sent events, one at a time."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, Any]:
        """(event, data); a comment is ("", its words)."""
        kind, data = "", ""
        async with asyncio.timeout(20):
            async for line in self._lines:
                name, _, value = line.partition(":")
                if not line and (kind or data):
                    return kind, json.loads(data) if kind else data
                if name in ("", "event", "data"):
                    kind, data = (value.strip(), data) if name == "event" else (kind, value.strip())
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def watching(house: House, *patterns: str) -> AsyncIterator[Watcher]:
    """Over a real connection: an in-process transport would hold the stream back."""
    port = free_port()
    operator = await house.operator()
    async with (
        served((house.app, {"port": port, "lifespan": "off", "timeout_graceful_shutdown": 1})),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        http.stream(
            "GET", TAIL, params={"pattern": list(patterns)}, headers=operator, timeout=30
        ) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        watcher = Watcher(response)
        assert await watcher.next() == ("", "listening")
        yield watcher


def bus_of(house: House) -> MemoryBus:
    runtime: Runtime = house.app.state.runtime
    assert isinstance(runtime.bus, MemoryBus)
    return runtime.bus


async def tell(house: House, payload: Payload, subject: object = "one") -> str:
    event = Envelope.wrap(payload, subject=subject)
    await bus_of(house).publish(event)
    return str(event.id)


def tails_of(house: House) -> int:
    return sum(queue.startswith("auth.tail.") for queue in bus_of(house)._unkept)


async def nobody_watches(house: House) -> None:
    async with asyncio.timeout(20):
        while tails_of(house):
            await asyncio.sleep(0.01)


async def test_facts_that_fit_arrive_as_they_were_told_and_no_others(house: House) -> None:
    async with watching(house, "market.#", "auth.account.enabled") as watcher:
        await tell(house, AccountEnabled(account_id=new_id()), "b")
        exhausted = WalletExhausted(account_id=new_id())
        first = await tell(house, exhausted, "a")
        kind, event = await watcher.next()
        assert (kind, event["type"]) == ("fact", "auth.account.enabled")
        kind, event = await watcher.next()
        assert (kind, event["id"], event["subject"]) == ("fact", first, "a")
        assert event["data"] == exhausted.model_dump(mode="json")
    await nobody_watches(house)


async def test_orders_and_reports_are_never_shown(house: House) -> None:
    async with watching(house, "#") as watcher:
        await tell(house, ImagesWanted(images=[]))
        await tell(house, WalletExhausted(account_id=new_id()))
        assert (await watcher.next())[1]["type"] == "market.wallet.exhausted"


async def test_whoever_leaves_leaves_no_queue_behind(house: House) -> None:
    async with watching(house, "#"), watching(house, "market.#"):
        assert tails_of(house) == 2
    await nobody_watches(house)


async def test_a_slow_reader_misses_the_oldest_and_is_told_how_many(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "MOST_WAITING", 3)
    tail = tailing.Tail()
    events = [
        Envelope.wrap(WalletExhausted(account_id=new_id()), subject=str(n)) for n in range(10)
    ]
    for event in events:
        await tail.take(event)
    heard = await tail.read(5)
    assert heard.dropped == 7
    assert heard.events == events[-3:]
    shown = tail_stream._as_events(heard)
    assert shown.startswith('event: dropped\ndata: {"count": 7}\n\n')
    assert (await tail.read(0)).dropped == 0


async def test_nobody_waits_for_a_reader_who_does_not_read(house: House) -> None:
    # More than all buffers on the way hold together, and nothing that the audit trail keeps.
    runs = UsageProven(node_id=new_id(), until=utc_now(), authorisations=[new_id()] * 200)
    async with watching(house, "scheduler.usage.*") as watcher:
        for _ in range(4000):
            await tell(house, runs)
            await asyncio.sleep(0)
        while (said := await watcher.next())[0] != "dropped":
            assert said[0] == "fact"
        assert said[1]["count"] > 0
        assert (await watcher.next())[0] == "fact"


async def test_a_quiet_stream_shows_that_it_lives_and_ends_with_the_login(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_stream, "HEARTBEAT_S", 0.05)
    async with watching(house, "#") as watcher:
        assert await watcher.next() == ("", "still here")
        for login in await logins(house):
            await house.http.delete(
                f"/api/v1/sessions/{login['id']}", headers=await house.operator()
            )
        while (said := await watcher.next()) == ("", "still here"):
            pass
        while said[0] == "fact":
            said = await watcher.next()
        assert said == ("over", {})
    await nobody_watches(house)


async def logins(house: House) -> list[Json]:
    found = await house.http.get("/api/v1/sessions", headers=await house.operator())
    items: list[Json] = found.json()["items"]
    return [item for item in items if not item["current"]]


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("scheduler.node.desired", 422),
        ("agent.#", 422),
        ("nobody.#", 422),
        ("a\x00b", 422),
        ("#" * 200, 422),
        ("", 422),
    ],
)
async def test_what_no_fact_fits_is_refused_with_its_name(
    house: House, pattern: str, status: int
) -> None:
    answer = await house.http.get(TAIL, params={"pattern": pattern}, headers=await house.operator())
    assert answer.status_code == status
    assert answer.json()["code"] in ("no_such_fact", "invalid")


async def test_too_many_watchers_are_refused(
    open_house: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "MOST_TAILS", 0)
    async with open_house() as house:
        answer = await house.http.get(TAIL, params={"pattern": "#"}, headers=await house.operator())
        assert answer.status_code == 503
        assert answer.json()["code"] == "too_many_tails"


async def test_what_happened_before_the_call_is_not_told(house: House) -> None:
    started = utc_now()
    await tell(house, WalletExhausted(account_id=new_id()))
    async with watching(house, "market.#") as watcher:
        late = await tell(house, WalletExhausted(account_id=new_id()))
        assert (await watcher.next())[1]["id"] == late
    assert utc_now() > started
