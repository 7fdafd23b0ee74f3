"""The ledger only grows, always balances, and agrees with every wallet."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.market.models import INCOME, TOP_UPS, Base
from services.market.verifying import LEDGER_FAULTS, verify_ledger
from shared.clock import utc_now
from shared.events.auth import AccountApproved
from shared.events.market import WalletCorrected, WalletCredited
from shared.ids import new_id
from tests.service.market.conftest import House, Opener, at

LEDGER = ("ledger_transactions", "ledger_entries")
CHANGES = ("UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE")
COLUMN = {"ledger_transactions": "note", "ledger_entries": "amount"}
INSERT_TRANSACTION = text(
    "INSERT INTO ledger_transactions (id, at, kind, note) VALUES (:id, :at, 'credit', '')"
)
INSERT_ENTRY = text(
    "INSERT INTO ledger_entries (transaction_id, ledger_account_id, amount) "
    "VALUES (:id, :account, :amount)"
)


@pytest.mark.parametrize("table", LEDGER)
@pytest.mark.parametrize("change", CHANGES)
async def test_not_even_the_owner_of_the_tables_can_change_the_past(
    house: House, payer: UUID, table: str, change: str
) -> None:
    statement = change.format(table, COLUMN[table], COLUMN[table])
    with pytest.raises(DBAPIError, match="only grows"):
        async with house.tools.database.transaction() as session:
            await session.execute(text(statement))
    assert await house.wallet(payer) == (100, 0, 100)


async def write_by_hand(house: House, amounts: list[tuple[UUID, str]]) -> None:
    async with house.tools.database.transaction() as session:
        id_ = new_id()
        await session.execute(INSERT_TRANSACTION, {"id": id_, "at": utc_now()})
        for account, amount in amounts:
            values = {"id": id_, "account": account, "amount": Decimal(amount)}
            await session.execute(INSERT_ENTRY, values)


@pytest.mark.parametrize(
    "amounts", [[], [(INCOME, "1")], [(INCOME, "1"), (TOP_UPS, "-2")]], ids=["none", "one", "two"]
)
async def test_a_transaction_that_does_not_balance_is_refused_at_its_commit(
    house: House, amounts: list[tuple[UUID, str]]
) -> None:
    with pytest.raises(DBAPIError, match="unbalanced"):
        await write_by_hand(house, amounts)
    assert await house.rows("SELECT 1 FROM ledger_transactions") == []


async def test_a_broken_sum_is_found_and_told(open_house: Opener) -> None:
    async with open_house() as house:
        account = await house.account("10")
        await house.rows("UPDATE wallets SET balance = balance + 1, held = 2 RETURNING 1")
        assert await verify_ledger(house.tools) == 2
        assert LEDGER_FAULTS._value.get() == 2
        await house.rows("UPDATE wallets SET balance = balance - 1, held = 0 RETURNING 1")
        assert await verify_ledger(house.tools) == 0
        assert await house.wallet(account) == (10, 0, 10)


async def test_all_accounts_together_sum_to_zero(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.stopped(at(hours=2)))
    sums = await house.rows(
        "SELECT a.kind, sum(e.amount) FROM ledger_entries e "
        "JOIN ledger_accounts a ON a.id = e.ledger_account_id GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in sums] == [
        ("income", Decimal("3.7600")),
        ("top_ups", Decimal("-100.0000")),
        ("wallet", Decimal("96.2400")),
    ]


async def test_a_credit_under_one_key_is_made_once_and_its_key_serves_no_other(
    house: House, payer: UUID
) -> None:
    key = {"idempotency-key": "credit-0001"}
    first = await house.credit(payer, "5.5", **key)
    again = await house.credit(payer, "5.5", **key)
    assert (first.status_code, first.json()) == (201, again.json())
    other = await house.credit(payer, "6", **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await house.wallet(payer) == (Decimal("105.5"), 0, Decimal("105.5"))
    told = await house.told(WalletCredited)
    assert [(e["amount"], e["by"]) for e in told][1:] == [("5.5", str(house.operator_id))]


async def test_an_account_that_nobody_knows_has_no_wallet(house: House) -> None:
    unknown = new_id()
    answers = [
        await house.credit(unknown, "5"),
        await house.http.get(f"/api/v1/wallets/{unknown}", headers=house.operator),
        await house.http.get(f"/api/v1/wallets/{unknown}/entries", headers=house.operator),
    ]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(404, "wallet_not_found")] * 3


async def test_a_credit_waits_for_the_wallet_of_an_account_just_approved(
    open_house: Opener,
) -> None:

    async with open_house(wallet_patience_s=10) as house:
        account = new_id()
        credit = asyncio.create_task(house.credit(account, "5"))
        await asyncio.sleep(0)
        await house.tell(AccountApproved(account_id=account, username="lihua"))
        assert (await credit).status_code == 201


async def test_entries_tell_what_moved_newest_first(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.stopped(at(hours=1)))
    found = await house.entries(payer)
    assert [(e["kind"], e["amount"], e["balance_after"]) for e in found] == [
        ("usage", "-1.8800", "98.1200"),
        ("credit", "100.0000", "100.0000"),
    ]
    assert found[0]["authorisation_id"] == str(run.id)


async def test_a_correction_names_its_original_and_undoes_it_once(
    house: House, payer: UUID
) -> None:
    original = (await house.entries(payer))[0]["id"]
    path = f"/api/v1/wallets/{payer}/corrections"
    body = {"transaction_id": original, "note": "twice"}
    done = await house.http.post(path, json=body, headers=house.operator)
    assert (done.status_code, done.json()["amount"]) == (201, "-100.0000")
    newest = (await house.entries(payer))[0]
    assert (newest["kind"], newest["corrects_id"]) == ("correction", original)
    assert await house.wallet(payer) == (0, 0, 0)
    for transaction in (original, newest["id"]):
        again = await house.http.post(
            path, json={"transaction_id": transaction}, headers=house.operator
        )
        assert (again.status_code, again.json()["code"]) == (409, "not_correctable")
    assert [e["corrects_id"] for e in await house.told(WalletCorrected)] == [original]


async def test_a_transaction_of_another_wallet_cannot_be_corrected(
    house: House, payer: UUID
) -> None:
    stranger = await house.account("1")
    theirs = (await house.entries(stranger))[0]["id"]
    refused = await house.http.post(
        f"/api/v1/wallets/{payer}/corrections",
        json={"transaction_id": theirs},
        headers=house.operator,
    )
    assert (refused.status_code, refused.json()["field"]) == (404, "transaction_id")


async def test_the_migrations_make_the_tables_that_the_models_describe(house: House) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with house.tools.database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
