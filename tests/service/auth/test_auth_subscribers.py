"""Outside programs: the row is the truth, and the broker is made so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from services.auth.domain.subscriber import TRANSITIONS, SubscriberState
from services.auth.models import Base
from shared.bus import Keeping
from shared.bus.admission import AdmittedQueue, BrokerAway
from tests.service.auth.conftest import House, Json, Opener
from tests.service.auth.test_auth_audit import relayed, trail

PATH = "/api/v1/events/subscribers"
BODY = {"name": "billing-export", "patterns": ["market.#", "scheduler.instance.*"]}


@dataclass
class Broker:
    """An `Admission` that remembers. refuses: so many calls find no broker."""

    passwords: dict[str, str] = field(default_factory=dict)
    queues: dict[str, AdmittedQueue] = field(default_factory=dict)
    refuses: int = 0
    calls: int = 0

    async def admit(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        self._answer()
        assert not may_report
        self.passwords[login] = password
        self.queues |= {queue.queue: queue for queue in queues}

    async def dismiss(self, login: str, queues: Sequence[str]) -> None:
        self._answer()
        self.passwords.pop(login, None)
        for queue in queues:
            self.queues.pop(queue, None)

    def _answer(self) -> None:
        self.calls += 1
        if self.refuses:
            self.refuses -= 1
            raise BrokerAway("no answer")


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def split(open_house: Opener, broker: Broker) -> AsyncIterator[House]:
    async with open_house(
        admission=broker,
        broker_admin_url=SecretStr("http://platform:secret@broker:15672"),
        broker_public_url="amqps://broker.example.org:5671/chusuan",
    ) as house:
        yield house


async def add(house: House, **changes: object) -> Json:
    answer = await house.http.post(PATH, json={**BODY, **changes}, headers=await house.operator())
    assert answer.status_code == 201, answer.text
    added: Json = answer.json()
    return added


async def state_of(house: House, name: str = "billing-export") -> str | None:
    page = await house.http.get(PATH, headers=await house.operator())
    states: dict[str, str] = {item["name"]: item["state"] for item in page.json()["items"]}
    return states.get(name)


async def until_state(house: House, state: str | None) -> None:
    async with asyncio.timeout(30):
        while await state_of(house) != state:
            await asyncio.sleep(0.02)


async def try_again_now(house: House) -> None:
    """As if the pause after a failure were over."""
    async with house.database.transaction() as session:
        await session.execute(text("UPDATE outside_subscribers SET claimed_until = NULL"))
    house.app.state.parts.settle_subscribers.set()


async def test_a_program_gets_a_login_and_a_bounded_queue_for_its_facts(
    split: House, broker: Broker
) -> None:
    added = await add(split)
    await until_state(split, "standing")
    assert broker.passwords == {"outside.billing-export": added["password"]}
    (queue,) = broker.queues.values()
    assert queue.queue == added["queue"] == added["login"] == "outside.billing-export"
    assert queue.patterns == ("market.#", "scheduler.instance.*")
    assert queue.keeping is Keeping.lately
    assert added["url"] == (
        f"amqps://outside.billing-export:{added['password']}@broker.example.org:5671/chusuan"
    )


async def test_the_password_is_said_once_and_stored_nowhere(split: House) -> None:
    headers = {**await split.operator(), "idempotency-key": "once-and-again"}
    first = (await split.http.post(PATH, json=BODY, headers=headers)).json()
    again = (await split.http.post(PATH, json=BODY, headers=headers)).json()
    assert again["id"] == first["id"]
    assert again["password"] == first["password"]
    assert len(first["password"]) == 64
    page = await split.http.get(PATH, headers=headers)
    assert first["password"] not in page.text
    async with split.database.transaction() as session:
        for table in Base.metadata.tables.values():
            rows = (await session.execute(select(table))).all()
            assert first["password"] not in repr(rows), table.name


async def test_while_the_broker_is_away_the_row_waits_and_says_why(
    split: House, broker: Broker
) -> None:
    broker.refuses = 1
    await add(split)
    async with asyncio.timeout(30):
        while broker.refuses:
            await asyncio.sleep(0.02)
    while not (await split.http.get(PATH, headers=await split.operator())).json()["items"][0][
        "trouble"
    ]:
        await asyncio.sleep(0.02)
    assert await state_of(split) == "wanted"
    await try_again_now(split)
    await until_state(split, "standing")
    assert len(broker.passwords) == 1


async def test_a_restart_finishes_what_was_begun(open_house: Opener, broker: Broker) -> None:
    settings = {"broker_admin_url": SecretStr("http://broker:15672")}
    broker.refuses = 1
    async with open_house(admission=broker, **settings) as house:
        added = await add(house)
        async with asyncio.timeout(30):
            while broker.refuses:
                await asyncio.sleep(0.02)
    async with open_house(admission=broker, **settings) as house:
        await try_again_now(house)
        await until_state(house, "standing")
    assert broker.passwords == {added["login"]: added["password"]}


async def test_a_removed_program_loses_login_and_queue_and_its_name_is_free(
    split: House, broker: Broker
) -> None:
    added = await add(split)
    await until_state(split, "standing")
    operator = await split.operator()
    taken = await split.http.post(PATH, json=BODY, headers=operator)
    assert taken.json()["code"] == "subscriber_taken"
    for _ in range(2):
        answer = await split.http.delete(f"{PATH}/{added['id']}", headers=operator)
        assert answer.status_code in (204, 404)
    await until_state(split, None)
    assert broker.passwords == {}
    assert broker.queues == {}
    assert (await split.http.delete(f"{PATH}/{added['id']}", headers=operator)).status_code == 404
    assert (await add(split))["password"] != added["password"]
    await relayed(split)
    kept = [entry["type"] for entry in await trail(split, subject=added["id"])]
    assert kept == ["auth.outside_subscriber.dismissed", "auth.outside_subscriber.added"]


async def test_a_broker_that_lost_its_memory_is_told_again(split: House, broker: Broker) -> None:
    added = await add(split)
    await until_state(split, "standing")
    broker.passwords.clear()
    async with split.database.transaction() as session:
        await session.execute(
            text("UPDATE outside_subscribers SET confirmed_at = now() - interval '2 hours'")
        )
    split.app.state.parts.settle_subscribers.set()
    async with asyncio.timeout(30):
        while not broker.passwords:
            await asyncio.sleep(0.02)
    assert broker.passwords == {added["login"]: added["password"]}


async def test_without_a_broker_the_cure_is_named(house: House) -> None:
    answer = await house.http.post(PATH, json=BODY, headers=await house.operator())
    assert answer.status_code == 409
    assert answer.json()["code"] == "needs_split_shape"
    assert (await house.http.get(PATH, headers=await house.operator())).json()["total"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"patterns": ["agent.#"]},
        {"patterns": ["market.#", "scheduler.node.desired"]},
        {"patterns": ["nothing.like.it"]},
        {"patterns": []},
        {"patterns": ["market.#"] * 21},
        {"name": "Billing"},
        {"name": "a\u0000b"},
        {"name": "../x"},
        {"extra": 1},
    ],
)
async def test_odd_wishes_are_refused(split: House, changes: Json) -> None:
    answer = await split.http.post(PATH, json={**BODY, **changes}, headers=await split.operator())
    assert answer.status_code == 422


def test_states_move_towards_gone_alone() -> None:
    order = list(SubscriberState)
    for before, targets in TRANSITIONS.items():
        assert all(order.index(after) > order.index(before) for after in targets)
    assert [state for state, targets in TRANSITIONS.items() if not targets] == [
        SubscriberState.gone
    ]
