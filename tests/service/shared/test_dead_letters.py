"""What could not be handled is seen, and has its effect once when an operator says so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Column, Integer, MetaData, Table, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from shared import inbox
from shared.bus import MemoryBus
from shared.database import Database, new_metadata
from shared.dead_letters import DeadLetters
from shared.event_routes import event_routes
from shared.events import Envelope, Payload
from shared.ids import new_id
from shared.inbox import consume, on
from shared.platform_tables import define_platform_tables
from shared.problems import install_problem_handlers
from shared.tokens import Role, Verifier
from tests.identity import TestIdentity

ROOT = "/api/v1/dead-letters/market"
QUEUE = "market.numbers"


class Happened(Payload):
    type: ClassVar[str] = "test.thing.happened"
    number: int


class HappenedOtherwise(Payload):
    type: ClassVar[str] = "test.thing.happened"
    version: ClassVar[int] = 2
    digits: str


def _metadata() -> MetaData:
    metadata = new_metadata()
    define_platform_tables(metadata)
    Table("effects", metadata, Column("number", Integer()))
    return metadata


METADATA = _metadata()
EFFECTS = METADATA.tables["effects"]


@dataclass
class Desk:
    """An operator before a service whose consumer fails while `broken`."""

    http: httpx.AsyncClient
    database: Database
    bus: MemoryBus
    operator_id: UUID
    broken: set[int] = field(default_factory=lambda: {7, 8})

    async def tell(self, number: int, subject: str = "one") -> str:
        event = Envelope.wrap(Happened(number=number), subject=subject)
        await self.bus.publish(event)
        return str(event.id)

    async def effects(self) -> list[int]:
        async with self.database.transaction() as session:
            found = await session.execute(select(EFFECTS.c.number).order_by(EFFECTS.c.number))
            return list(found.scalars())

    async def told(self) -> list[Envelope]:
        """What the service has written to its outbox."""
        async with self.database.transaction() as session:
            rows = await session.execute(text("SELECT envelope FROM outbox ORDER BY position"))
            return [Envelope.model_validate(row) for row in rows.scalars()]

    async def parked(self) -> list[str]:
        return [item["event_id"] for item in (await self.http.get(ROOT)).json()["items"]]


@pytest.fixture
async def desk(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(inbox, "RETRY_DELAYS_S", (0.0,))
    identity, operator_id = TestIdentity(), new_id()
    database, bus = Database(database_url), MemoryBus()
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)

    async def record(session: AsyncSession, payload: Happened, event: Envelope) -> None:
        await session.execute(EFFECTS.insert().values(number=payload.number))
        if payload.number in opened.broken:
            raise ValueError(f"number {payload.number}")

    subscription = consume(database, QUEUE, on(Happened, record))
    await bus.subscribe(subscription)
    app = FastAPI()
    install_problem_handlers(app)
    app.include_router(event_routes("market"))
    app.state.verifier = Verifier(identity)
    app.state.dead_letters = DeadLetters("market", database, [subscription])
    headers = identity.headers(operator_id, role=Role.operator) | {"accept-language": "en"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://market", headers=headers
    ) as http:
        opened = Desk(http, database, bus, operator_id)
        yield opened
    await bus.close()
    await database.close()


async def test_a_dead_letter_is_shown_with_envelope_error_and_tries(desk: Desk) -> None:
    await desk.tell(6)
    event_id = await desk.tell(7)
    listed = (await desk.http.get(ROOT, params={"consumer": QUEUE, "type": "test.thing"})).json()
    assert listed["total"] == 1
    assert listed["items"][0]["error"] == "ValueError('number 7')"
    shown = (await desk.http.get(f"{ROOT}/{QUEUE}/{event_id}")).json()
    assert shown["envelope"]["id"] == event_id
    assert shown["envelope"]["data"] == {"number": 7}
    assert shown["attempts"] == 2
    assert (await desk.http.get(ROOT, params={"type": "market"})).json()["total"] == 0


async def test_a_replay_has_the_effect_once_and_takes_the_letter_away(desk: Desk) -> None:
    event_id = await desk.tell(7)
    desk.broken.clear()
    answers = await asyncio.gather(
        *(desk.http.post(f"{ROOT}/{QUEUE}/{event_id}/replay") for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404, 404]
    assert await desk.effects() == [7]
    assert await desk.parked() == []
    event = Envelope.wrap(Happened(number=7), subject="one").model_copy(
        update={"id": UUID(event_id)}
    )
    await desk.bus.publish(event)
    assert await desk.effects() == [7]


async def test_a_replay_that_fails_has_no_effect_and_keeps_the_letter(desk: Desk) -> None:
    event_id = await desk.tell(7)
    answer = await desk.http.post(f"{ROOT}/{QUEUE}/{event_id}/replay")
    assert answer.status_code == 409
    assert answer.json()["code"] == "replay_failed"
    assert "number 7" in answer.json()["detail"]
    assert await desk.effects() == []
    assert (await desk.http.get(f"{ROOT}/{QUEUE}/{event_id}")).json()["attempts"] == 3
    assert await desk.told() == []


async def test_replaying_all_keeps_the_order_of_a_subject_behind_one_that_fails(
    desk: Desk,
) -> None:
    seven, eight = await desk.tell(7, "one"), await desk.tell(8, "one")
    other = await desk.tell(7, "other")
    desk.broken = {7}
    answer = (await desk.http.post(f"{ROOT}/{QUEUE}/replay")).json()
    assert answer == {"replayed": [], "failed": [seven, other], "left": 3}
    desk.broken = {8}
    answer = (await desk.http.post(f"{ROOT}/{QUEUE}/replay")).json()
    assert answer == {"replayed": [seven, other], "failed": [eight], "left": 1}
    assert await desk.effects() == [7, 7]


async def test_what_operators_decide_is_told_with_who_decided(desk: Desk) -> None:
    dropped, replayed = await desk.tell(7), await desk.tell(8)
    desk.broken.clear()
    assert (await desk.http.delete(f"{ROOT}/{QUEUE}/{dropped}")).status_code == 204
    assert (await desk.http.post(f"{ROOT}/{QUEUE}/{replayed}/replay")).status_code == 204
    facts = await desk.told()
    assert [fact.type for fact in facts] == [
        "market.dead_letter.dropped",
        "market.dead_letter.replayed",
    ]
    assert [fact.subject for fact in facts] == [dropped, replayed]
    assert {fact.actor for fact in facts} == {desk.operator_id}
    assert facts[0].data["error"] == "ValueError('number 7')"
    assert await desk.effects() == [8]
    assert await desk.parked() == []


async def test_a_version_that_nobody_here_reads_is_parked(desk: Desk) -> None:
    await desk.bus.publish(Envelope.wrap(HappenedOtherwise(digits="1"), subject="one"))
    listed = (await desk.http.get(ROOT)).json()["items"]
    assert [item["error"] for item in listed] == ["UnknownVersion('test.thing.happened version 2')"]


async def test_a_letter_whose_consumer_is_gone_stays_and_says_so(desk: Desk) -> None:
    event_id = await desk.tell(7)
    async with desk.database.transaction() as session:
        await session.execute(text("UPDATE dead_letters SET consumer = 'market.old'"))
    for path in (f"market.old/{event_id}/replay", "market.old/replay"):
        answer = await desk.http.post(f"{ROOT}/{path}")
        assert answer.status_code == 409
        assert answer.json()["code"] == "consumer_gone"
    assert await desk.parked() == [event_id]
    assert (await desk.http.post(f"{ROOT}/market.older/replay")).status_code == 404


async def test_the_figures_count_what_waits_what_was_handled_and_what_is_dead(
    desk: Desk,
) -> None:
    await desk.tell(5)
    await desk.http.delete(f"{ROOT}/{QUEUE}/{await desk.tell(7)}")
    await desk.tell(8)
    stats = (await desk.http.get("/api/v1/events/stats/market")).json()
    assert stats["service"] == "market"
    assert stats["outbox_waiting"] == 1
    assert stats["outbox_oldest_age_s"] > 0
    assert stats["dead_letters"] == 1
    (consumer,) = stats["consumers"]
    assert consumer["consumer"] == QUEUE
    assert consumer["handled"] == 1
    assert 0 <= consumer["lag_s"] < 60
    assert consumer["dead_letters"] == 1


@pytest.mark.parametrize(
    "path",
    [
        f"{ROOT}/{QUEUE}/{new_id()}",
        f"{ROOT}/%00/{new_id()}",
        f"{ROOT}/{QUEUE}/x",
        f"{ROOT}?type=%00",
        f"{ROOT}?consumer=%F0%9F%92%A9",
    ],
)
async def test_odd_addresses_are_refused(desk: Desk, path: str) -> None:
    assert (await desk.http.get(path)).status_code in (404, 422)
