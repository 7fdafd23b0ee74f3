"""The audit trail: complete, in nobody's power to change."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.auth.models import Base
from shared.app import Runtime
from shared.clock import utc_now
from shared.events.envelope import Envelope
from shared.events.market import WalletExhausted
from shared.events.scheduler import InstanceReleased, UsageProven
from shared.ids import new_id
from tests.service.auth.conftest import House, Json


async def trail(house: House, **query: str) -> list[Json]:
    page = await house.http.get("/api/v1/audit", params=query, headers=await house.operator())
    items: list[Json] = page.json()["items"]
    return items


async def publish(house: House, payload: Any, subject: object) -> Envelope:
    """Returns when every consumer has it."""
    runtime: Runtime = house.app.state.runtime
    envelope = Envelope.wrap(payload, subject=subject, actor=new_id())
    await runtime.bus.publish(envelope)
    return envelope


async def relayed(house: House) -> None:
    """Until what auth told has arrived."""
    waiting = text("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    while True:
        async with house.database.transaction() as session:
            if (await session.execute(waiting)).scalar_one() == 0:
                return


async def test_what_operators_decide_is_on_record_with_who_decided(house: House) -> None:
    account = await house.active()
    await relayed(house)
    entries = await trail(house, subject=account["id"])
    assert [e["type"] for e in entries] == ["auth.account.approved", "auth.account.registered"]
    operator = await house.http.get("/api/v1/accounts/me", headers=await house.operator())
    assert entries[0]["actor_id"] == operator.json()["id"]


async def test_facts_of_other_rooms_are_kept_once_and_machine_chatter_is_not(
    house: House,
) -> None:
    account, instance = new_id(), new_id()
    envelope = await publish(house, WalletExhausted(account_id=account), account)
    runtime: Runtime = house.app.state.runtime
    await runtime.bus.publish(envelope)
    released = InstanceReleased(instance_id=instance, account_id=account)
    await publish(house, released, instance)
    await publish(house, UsageProven(node_id=account, until=utc_now(), authorisations=[]), account)
    entries = [*await trail(house, subject=str(account)), *await trail(house, type="scheduler")]
    assert [e["type"] for e in entries] == [
        "market.wallet.exhausted",
        "scheduler.instance.released",
    ]
    assert entries[0]["id"] == str(envelope.id)
    assert entries[0]["actor_id"] == str(envelope.actor)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET actor_id = NULL",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
    ],
)
async def test_not_even_the_owner_of_the_table_can_change_it(house: House, statement: str) -> None:
    await house.operator()
    with pytest.raises(DBAPIError, match="only grows"):
        async with house.database.transaction() as session:
            await session.execute(text(statement))
    assert await trail(house)


async def test_the_migrations_make_the_tables_that_the_models_describe(house: House) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with house.database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_no_secret_is_in_the_trail_or_the_outbox(house: House, tmp_path: Path) -> None:
    account = await house.active()
    granted = await house.log_in(account)
    await relayed(house)
    async with house.database.transaction() as session:
        told = (await session.execute(text("SELECT envelope::text FROM outbox"))).scalars().all()
        kept = (await session.execute(text("SELECT data::text FROM audit_entries"))).scalars().all()
    everything = " ".join([*told, *kept])
    assert account["password"] not in everything
    assert granted["refresh_token"] not in everything
    assert account["email"] not in everything
