"""One key, one effect, one answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import BaseModel

from shared.database import Database, new_metadata
from shared.idempotency import IdempotencyKeyReused, define_idempotency, once
from shared.ids import new_id


class Order(BaseModel):
    count: int


class Answer(BaseModel):
    number: int


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    metadata = new_metadata()
    define_idempotency(metadata)
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield database
    await database.close()


class Shop:
    """Counts its effects; the answer tells which one it was."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner = new_id()
        self.effects = 0

    async def order(self, key: str | None, count: int = 1) -> int:
        async def effect() -> Answer:
            self.effects += 1
            return Answer(number=self.effects)

        async with self._database.transaction() as session:
            answer = await once(
                session,
                owner_id=self._owner,
                key=key,
                operation="order",
                request=Order(count=count),
                effect=effect,
                answer_type=Answer,
            )
        return answer.number


async def test_the_same_key_repeats_the_answer_and_not_the_effect(database: Database) -> None:
    shop = Shop(database)
    assert [await shop.order("key-12345"), await shop.order("key-12345")] == [1, 1]
    assert shop.effects == 1


async def test_fifty_at_once_with_one_key_have_one_effect(database: Database) -> None:
    shop = Shop(database)
    answers = await asyncio.gather(*(shop.order("key-12345") for _ in range(50)))
    assert set(answers) == {1}
    assert shop.effects == 1


async def test_the_same_key_for_another_request_is_refused(database: Database) -> None:
    shop = Shop(database)
    await shop.order("key-12345", count=1)
    with pytest.raises(IdempotencyKeyReused):
        await shop.order("key-12345", count=2)


async def test_one_owners_key_means_nothing_to_another(database: Database) -> None:
    assert await Shop(database).order("key-12345") == 1
    assert await Shop(database).order("key-12345", count=2) == 1


async def test_without_a_key_every_call_has_its_effect(database: Database) -> None:
    shop = Shop(database)
    assert [await shop.order(None), await shop.order(None)] == [1, 2]
