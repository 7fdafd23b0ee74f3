"""Facts that somebody lost are told again: the same ones, in their order, and to nobody twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Column, Integer, MetaData, Table, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from shared import retelling
from shared.bus import MemoryBus, Subscription
from shared.clock import utc_now
from shared.database import Database, new_metadata
from shared.event_routes import event_routes
from shared.events import Envelope, Payload
from shared.ids import first_id, new_id
from shared.inbox import consume, on
from shared.outbox import Relay, clearing, emit, forget_told
from shared.platform_tables import define_platform_tables
from shared.problems import install_problem_handlers
from shared.retelling import Retelling
from shared.settings import ServiceSettings
from shared.tokens import Role, Verifier
from tests.identity import TestIdentity

PATH = "/api/v1/events/retell/market"
KEPT = timedelta(days=3)


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int


class Other(Payload):
    type: ClassVar[str] = "test.other.happened"
    number: int


def _metadata() -> MetaData:
    metadata = new_metadata()
    define_platform_tables(metadata)
    Table("effects", metadata, Column("number", Integer()))
    return metadata


METADATA = _metadata()
EFFECTS = METADATA.tables["effects"]


@dataclass
class Desk:
    """An operator before a service that tells; `heard` is what a watcher without a memory hears."""

    http: httpx.AsyncClient
    identity: TestIdentity
    database: Database
    bus: MemoryBus
    operator_id: UUID
    heard: list[Envelope] = field(default_factory=list)

    async def tell(self, *payloads: Payload, subject: str = "one") -> None:
        async with self.database.transaction() as session:
            for payload in payloads:
                await emit(session, payload, subject=subject)

    async def until_heard(self, count: int) -> list[object]:
        async with asyncio.timeout(20):
            while len(self.numbers) < count or await self.waiting():
                await asyncio.sleep(0.01)
        return self.numbers

    @property
    def numbers(self) -> list[object]:
        return [event.data["number"] for event in self.heard]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.database.transaction() as session:
            return list((await session.execute(text(statement), values)).all())

    async def waiting(self) -> int:
        return len(await self.rows("SELECT 1 FROM outbox WHERE published_at IS NULL"))

    async def retell(self, since: datetime, **more: Any) -> httpx.Response:
        return await self.http.post(PATH, json={"since": since.isoformat(), **more})

    async def retold(self, since: datetime, **more: Any) -> int:
        answer = await self.retell(since, **more)
        assert answer.status_code == 200, answer.text
        count: int = answer.json()["retold"]
        return count


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    identity, operator_id = TestIdentity(), new_id()
    database, bus = Database(database_url), MemoryBus()
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(event_routes("market"))
    app.state.verifier = Verifier(identity)
    app.state.retelling = Retelling("market", database, KEPT)
    headers = identity.headers(operator_id, role=Role.operator) | {"accept-language": "en"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://market", headers=headers
    ) as http:
        opened = Desk(http, identity, database, bus, operator_id)

        async def hear(event: Envelope) -> None:
            opened.heard.append(event)

        await bus.subscribe(Subscription("watcher", ("test.#",), hear))
        relay = asyncio.create_task(Relay(database, bus).run())
        yield opened
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
    await bus.close()
    await database.close()


async def test_facts_are_told_again_in_their_order_under_their_ids(desk: Desk) -> None:
    began = utc_now()
    await desk.tell(*(Happened(number=n) for n in range(50)))
    await desk.until_heard(50)
    assert await desk.retold(began) == 50
    assert await desk.until_heard(100) == [*range(50), *range(50)]
    assert [e.id for e in desk.heard[:50]] == [e.id for e in desk.heard[50:]]


async def test_what_a_lost_queue_missed_has_its_effect_and_what_it_had_has_it_once(
    desk: Desk,
) -> None:
    async def record(session: AsyncSession, payload: Happened, _: Envelope) -> None:
        await session.execute(EFFECTS.insert().values(number=payload.number))

    subscription = consume(desk.database, "test.numbers", on(Happened, record))
    await desk.bus.subscribe(subscription)
    began = utc_now()
    await desk.tell(Happened(number=1))
    await desk.until_heard(1)
    # The queue is gone: facts are told, and nobody misses it.
    await desk.bus.unsubscribe("test.numbers")
    await desk.tell(Happened(number=2))
    await desk.until_heard(2)
    await desk.bus.subscribe(subscription)
    for _ in range(2):
        assert await desk.retold(began) >= 2
        await desk.until_heard(len(desk.heard) + 2)
    async with desk.database.transaction() as session:
        assert list((await session.execute(select(EFFECTS.c.number))).scalars()) == [1, 2]


async def test_a_subscriber_that_skips_lower_sequences_keeps_the_newest(desk: Desk) -> None:
    newest = 0

    async def keep(session: AsyncSession, payload: Happened, event: Envelope) -> None:
        nonlocal newest
        newest = max(newest, event.sequence)

    await desk.bus.subscribe(consume(desk.database, "test.newest", on(Happened, keep)))
    began = utc_now()
    async with desk.database.transaction() as session:
        for n in (1, 2):
            await emit(session, Happened(number=n), subject="one", sequence=n)
    await desk.until_heard(2)
    assert await desk.retold(began) == 2
    await desk.tell(Happened(number=3))
    # The new fact waits behind the old ones of its subject.
    assert (await desk.until_heard(5))[2:] == [1, 2, 3]
    assert newest == 2


async def test_only_the_span_and_the_types_asked_for_are_told_again(desk: Desk) -> None:
    began = utc_now()
    await desk.tell(Happened(number=1), Other(number=2))
    await desk.until_heard(2)
    middle = utc_now()
    await desk.tell(Happened(number=3))
    await desk.until_heard(3)
    assert await desk.retold(began, until=middle.isoformat()) == 2
    assert sorted((await desk.until_heard(5))[3:], key=str) == [1, 2]
    assert await desk.retold(began, type="test.thing.*") == 2
    assert sorted((await desk.until_heard(7))[5:], key=str) == [1, 3]
    assert await desk.retold(middle) >= 1
    assert (await desk.until_heard(8))[7] == 3
    assert await desk.retold(began, type="storage.#") == 0


async def test_what_is_about_to_be_told_for_the_first_time_is_not_counted(desk: Desk) -> None:
    began = utc_now()

    async def refuse(event: Envelope) -> None:
        raise RuntimeError("not yet")

    await desk.bus.subscribe(Subscription("refuses", ("test.#",), refuse))
    await desk.tell(Happened(number=1))
    assert await desk.retold(began) == 0
    await desk.bus.unsubscribe("refuses")


async def test_the_trail_says_who_had_what_told_again(desk: Desk) -> None:
    began = utc_now()
    await desk.tell(Happened(number=1))
    await desk.until_heard(1)
    await desk.retold(began, type="test.thing.*")
    statement = "SELECT envelope FROM outbox WHERE envelope ->> 'type' = 'market.outbox.retold'"
    (row,) = await desk.rows(statement)
    told = Envelope.model_validate(row[0])
    assert told.actor == desk.operator_id
    assert (told.data["pattern"], told.data["events"]) == ("test.thing.*", 1)
    assert datetime.fromisoformat(str(told.data["since"])) == began


async def test_a_time_whose_facts_are_forgotten_is_refused_with_the_cure(desk: Desk) -> None:
    answer = await desk.retell(utc_now() - KEPT - timedelta(seconds=5))
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["field"]) == ("facts_forgotten", "since")
    assert "CHUSUAN_OUTBOX_KEPT_S" in problem["detail"]
    named = problem["detail"].split("back to ")[1].split(";")[0]
    assert abs(datetime.fromisoformat(named) - (utc_now() - KEPT)) < timedelta(minutes=1)
    chinese = await desk.http.post(
        PATH, json={"since": "0001-01-01T00:00:00+14:00"}, headers={"accept-language": "zh"}
    )
    assert chinese.status_code == 422
    assert "只保存到" in chinese.json()["detail"]
    assert await desk.retold(utc_now() - KEPT + timedelta(seconds=60)) == 0


async def test_too_many_at_once_are_refused_and_none_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retelling, "MOST", 2)
    began = utc_now()
    await desk.tell(*(Happened(number=n) for n in range(3)))
    await desk.until_heard(3)
    answer = await desk.retell(began)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_facts")
    assert await desk.waiting() == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"since": "2026-11-24T10:00"},
        {"since": "yesterday"},
        {"since": 1e300},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"since": "NOW", "until": "1970-01-01T00:00:00Z"},
        {"since": "NOW", "until": None, "type": "%"},
        {"since": "NOW", "type": "\x00"},
        {"since": "NOW", "type": "a." * 60 + "b"},
        {"since": "NOW", "more": 1},
    ],
)
async def test_odd_wishes_are_refused(desk: Desk, body: dict[str, Any]) -> None:
    given = {k: utc_now().isoformat() if v == "NOW" else v for k, v in body.items()}
    assert (await desk.http.post(PATH, json=given)).status_code == 422


async def test_an_end_beyond_all_clocks_is_no_end(desk: Desk) -> None:
    began = utc_now()
    await desk.tell(Happened(number=1))
    await desk.until_heard(1)
    assert await desk.retold(began, until="9999-12-31T23:59:59-14:00") == 1


async def test_only_operators_may(desk: Desk) -> None:
    headers = desk.identity.headers(role=Role.user)
    body = {"since": utc_now().isoformat()}
    assert (await desk.http.post(PATH, json=body, headers=headers)).status_code == 403


async def test_told_facts_stay_as_long_as_they_may_be_told_again_and_no_longer(
    desk: Desk,
) -> None:
    await desk.tell(*(Happened(number=n) for n in range(3)))
    await desk.until_heard(3)

    async def grow_old(number: int, age: timedelta, *, told: bool = True) -> None:
        at = utc_now() - age
        await desk.rows(
            "UPDATE outbox SET id = :id, published_at = :at "
            "WHERE envelope #>> '{data,number}' = :number RETURNING id",
            id=first_id(at), at=at if told else None, number=str(number),
        )  # fmt: skip

    await grow_old(0, KEPT + timedelta(hours=1))
    await grow_old(1, KEPT - timedelta(hours=1))
    # Not told yet, whatever its age: a claim far off keeps the relay of this test from it.
    await grow_old(2, KEPT + timedelta(days=9), told=False)
    await desk.rows(
        "UPDATE outbox SET claimed_until = now() + interval '1 day' "
        "WHERE published_at IS NULL RETURNING id"
    )
    await clearing(desk.database, "market", KEPT).step()
    left = await desk.rows("SELECT envelope #>> '{data,number}' FROM outbox ORDER BY 1")
    assert [row[0] for row in left] == ["1", "2"]
    async with desk.database.transaction() as session:
        await forget_told(session, timedelta(0))
    left = await desk.rows("SELECT envelope #>> '{data,number}' FROM outbox")
    assert [row[0] for row in left] == ["2"]


async def test_what_was_handled_is_never_forgotten_so_that_no_telling_is_too_late(
    desk: Desk,
) -> None:
    """The bound that an inbox needs: longer than any outbox keeps. Nothing drops its rows."""

    async def ignore(session: AsyncSession, payload: Happened, _: Envelope) -> None: ...

    await desk.bus.subscribe(consume(desk.database, "test.ids", on(Happened, ignore)))
    await desk.tell(Happened(number=1))
    await desk.until_heard(1)
    await desk.rows("UPDATE inbox SET received_at = now() - interval '9 years' RETURNING 1")
    await clearing(desk.database, "market", KEPT).step()
    assert len(await desk.rows("SELECT 1 FROM inbox")) == 1


def test_facts_are_kept_for_three_days_unless_said_otherwise() -> None:
    settings = ServiceSettings(database_url="x", service_secret=SecretStr("x"))
    assert timedelta(seconds=settings.outbox_kept_s) == KEPT


def test_no_id_of_now_is_lower_than_the_first_of_now() -> None:
    first = first_id(utc_now())
    assert first <= new_id()
    assert first_id(utc_now() - timedelta(milliseconds=2)) < first
