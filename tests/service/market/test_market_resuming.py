"""Runs that go on after the loss of their host, and how far money is said to reach."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from shared.clock import utc_now
from shared.events.market import WalletReaches
from shared.ids import new_id
from tests.service.market.conftest import House, at

PRICE = Decimal("1.88")


def moment(words: str) -> datetime:
    return datetime.fromisoformat(words)


async def bills(house: House, account: Any) -> list[tuple[int, Decimal]]:
    """Seconds and amount of each run, oldest first."""
    items = (await house.get(account, "/bills"))["items"]
    return [(bill["seconds"], Decimal(bill["amount"])) for bill in reversed(items)]


async def test_a_run_that_goes_on_is_billed_on_the_old_terms_and_not_for_the_gap(
    house: House,
) -> None:
    account = await house.account("100")
    run = await house.running(account)
    await house.tell(run.stopped(at(minutes=30)))
    on, told = run.resumed(at(minutes=60))
    await house.tell(told)
    assert await house.state_of(on) == ("active", PRICE)
    await house.tell(on.stopped(at(minutes=90)))
    assert await bills(house, account) == [(1800, Decimal("0.94")), (1800, Decimal("0.94"))]
    assert await house.wallet(account) == (Decimal("98.12"), 0, Decimal("98.12"))


async def test_the_price_stays_though_the_market_has_another_one_by_then(house: House) -> None:
    account = await house.account("100")
    run = await house.running(account)
    await house.tell(run.stopped(at(minutes=30)))
    dear = {"list_price_per_hour": "9", "price_per_hour": "9"}
    answer = await house.http.put(
        "/api/v1/prices/GeForce RTX 4090", json=dear, headers=house.operator
    )
    assert answer.status_code == 200, answer.text
    on, told = run.resumed(at(minutes=60))
    await house.tell(told)
    assert await house.state_of(on) == ("active", PRICE)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_facts_of_a_loss_may_come_in_any_order_and_twice(
    house: House, order: tuple[int, ...]
) -> None:
    account = await house.account("100")
    run = await house.running(account)
    on, told = run.resumed(at(minutes=60))
    facts = [run.stopped(at(minutes=30)), told, on.stopped(at(minutes=90))]
    for _ in range(2):
        for place in order:
            await house.tell(facts[place])
    assert await bills(house, account) == [(1800, Decimal("0.94")), (1800, Decimal("0.94"))]
    assert await house.rows("SELECT * FROM early_stops") == []
    assert await house.wallet(account) == (Decimal("98.12"), 0, Decimal("98.12"))


async def test_a_run_goes_on_though_the_money_does_not_reach_for_its_hour(house: House) -> None:
    account = await house.account("2")
    run = await house.running(account)
    await house.tell(run.stopped(at(minutes=60)))
    on, told = run.resumed(at(minutes=90))
    await house.tell(told)
    assert await house.state_of(on) == ("active", Decimal("0.12"))
    assert await house.wallet(account) == (Decimal("0.12"), Decimal("0.12"), 0)


async def test_a_resumption_of_what_was_never_given_is_a_dead_letter(house: House) -> None:
    account = await house.account("2")
    run = await house.running(account)
    _, told = run.resumed(at(minutes=90))
    await house.tell(told.model_copy(update={"old_authorisation_id": new_id()}))
    parked = await house.rows("DELETE FROM dead_letters RETURNING type")
    assert [row[0] for row in parked] == ["scheduler.instance.resumed"]


async def test_how_far_the_money_reaches_is_told_once_and_again_when_it_changes(
    house: House,
) -> None:
    account, now = await house.account("18.80"), utc_now()
    run = await house.running(account, since=now)
    for seconds in (0, 60):
        await house.tell(run.proven(now + timedelta(seconds=seconds)))
        await house.watch(account, now + timedelta(seconds=seconds))
    told = await house.told(WalletReaches)
    assert [t["account_id"] for t in told] == [str(account)]
    assert abs(moment(told[0]["paid_until"]) - now - timedelta(hours=10)) < timedelta(seconds=2)
    await house.credit(account, "18.80")
    told = await house.told(WalletReaches)
    assert len(told) == 2
    assert abs(moment(told[1]["paid_until"]) - now - timedelta(hours=20)) < timedelta(minutes=1)
    await house.running(account, since=now)
    await house.watch(account, now + timedelta(seconds=90))
    told = await house.told(WalletReaches)
    assert abs(moment(told[2]["paid_until"]) - now - timedelta(hours=10)) < timedelta(minutes=2)


async def test_it_is_told_every_hour_while_something_runs(house: House) -> None:
    account, now = await house.account("18.80"), utc_now()
    run = await house.running(account, since=now)
    for minutes in (0, 59, 60):
        later = now + timedelta(minutes=minutes)
        await house.tell(run.proven(later))
        await house.watch(account, later)
    assert len(await house.told(WalletReaches)) == 2


async def test_an_answer_counts_what_runs_already_beside_the_new_start(house: House) -> None:
    account = await house.account("18.80")
    await house.running(account, since=utc_now())
    answer = (await house.ask(account)).json()
    hours = (moment(answer["paid_until"]) - utc_now()) / timedelta(hours=1)
    assert abs(hours - 5) < 0.05
