"""Two markets on one database: every hour is debited once, every warning told once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import httpx
import pytest

from services.market.domain.metering import floor_hour, total_due, whole_seconds
from services.market.main import create_app
from services.market.metering import settle_hours
from services.market.watching import watch_balances
from shared.clock import utc_now
from shared.events.market import WalletExhausted
from shared.ids import new_id
from tests.service.market.conftest import House
from tests.service.market.test_market_metering import PRICE


@pytest.fixture
async def other(house: House) -> AsyncIterator[House]:
    app = create_app(house.tools.settings, key_source=house.identity)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://market") as http:
            yield replace(house, app=app, http=http)


async def test_passes_of_both_copies_at_once_debit_each_hour_once(
    house: House, other: House, payer: UUID
) -> None:
    now = utc_now()
    started = now - timedelta(hours=3)
    run = await house.running(payer, since=started)
    await house.tell(run.proven(now))
    await asyncio.gather(*(settle_hours(copy.tools) for copy in (house, other) * 4))
    due = total_due(PRICE, whole_seconds(started, floor_hour(now)))
    debits = [Decimal(e["amount"]) for e in await house.entries(payer) if e["kind"] == "usage"]
    assert sum(debits) == -due


async def test_one_start_authorised_at_both_copies_holds_once(
    house: House, other: House, payer: UUID
) -> None:
    wish = {"id": str(new_id()), "instance_id": str(new_id())}
    answers = await asyncio.gather(*(copy.ask(payer, **wish) for copy in (house, other) * 3))
    assert len({answer.status_code for answer in answers}) == 1
    held = await house.rows("SELECT held FROM wallets WHERE account_id = :id", id=payer)
    assert held[0][0] == PRICE


async def test_an_exhausted_wallet_is_told_once(house: House, other: House) -> None:
    now = utc_now()
    poor = await house.account(str(PRICE))
    run = await house.running(poor, since=now - timedelta(hours=2))
    await house.tell(run.proven(now))
    await asyncio.gather(*(watch_balances(copy.tools) for copy in (house, other) * 4))
    told = "SELECT count(*) FROM outbox WHERE envelope->>'type' = :type"
    assert (await house.rows(told, type=WalletExhausted.type))[0][0] == 1
