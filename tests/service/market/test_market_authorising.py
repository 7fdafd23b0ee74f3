"""A start holds an hour's price of the caller's own wallet, once, and never more than there is."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import httpx
import pytest

from services.market.authorising import expire_all
from shared.clock import utc_now
from shared.ids import new_id
from shared.tokens import AccountStatus, Role
from tests.service.market.conftest import House, Json, Opener, at

PRICE = Decimal("1.88")


async def test_fifty_starts_at_once_never_promise_more_than_the_wallet_has(house: House) -> None:
    account = await house.account("20")
    answers = await asyncio.gather(*(house.ask(account) for _ in range(50)))
    codes = sorted(a.status_code for a in answers)
    assert codes == [200] * 10 + [402] * 40
    assert await house.wallet(account) == (20, Decimal("18.8"), Decimal("1.2"))


async def test_the_price_is_of_the_whole_instance_and_an_hour_of_it_is_held(
    house: House, payer: UUID
) -> None:
    answer = (await house.ask(payer, gpu_count=3)).json()
    assert (answer["price_per_hour"], answer["hold"]) == ("5.6400", "5.6400")
    no_card = (await house.ask(payer, gpu_count=3, mode="cpu")).json()
    assert (no_card["price_per_hour"], no_card["hold"]) == ("0.1000", "0.1000")
    assert await house.wallet(payer) == (100, Decimal("5.74"), Decimal("94.26"))


def kept(answer: httpx.Response) -> Json:
    """What stays: how far the money reaches moves on with what runs."""
    return {name: value for name, value in answer.json().items() if name != "paid_until"}


async def test_the_same_question_has_the_same_answer_and_one_hold(
    house: House, payer: UUID
) -> None:
    body = {"id": str(new_id()), "instance_id": str(new_id())}
    answers = await asyncio.gather(*(house.ask(payer, **body) for _ in range(5)))
    assert all(kept(a) == kept(answers[0]) for a in answers)
    assert answers[0].status_code == 200
    assert (await house.wallet(payer))[1] == PRICE


async def test_an_id_serves_no_other_start_and_no_other_payer(house: House, payer: UUID) -> None:
    body = {"id": str(new_id()), "instance_id": str(new_id())}
    assert (await house.ask(payer, **body)).status_code == 200
    stranger = await house.account("100")
    for answer in (
        await house.ask(payer, **body, gpu_count=2),
        await house.ask(payer, **body, mode="cpu"),
        await house.ask(stranger, **body),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "authorisation_reused")
    assert (await house.wallet(stranger))[1] == 0


async def test_two_payers_racing_for_one_id_are_not_both_served(house: House) -> None:
    accounts = [await house.account("100") for _ in range(2)]
    body = {"id": str(new_id()), "instance_id": str(new_id())}
    answers = await asyncio.gather(*(house.ask(a, **body) for a in accounts))
    assert sorted(a.status_code for a in answers) == [200, 409]
    assert sum([(await house.wallet(a))[1] for a in accounts], Decimal(0)) == PRICE


async def test_a_refusal_for_money_names_what_is_there_what_is_needed_and_the_cure(
    house: House,
) -> None:
    account = await house.account("1.5")
    problem = (await house.ask(account)).json()
    assert (problem["code"], problem["available"], problem["needed"]) == (
        "insufficient_balance", "1.5000", "1.8800",
    )  # fmt: skip
    assert "1.5000" in problem["detail"]
    assert "充值" in problem["detail"]
    assert await house.wallet(account) == (Decimal("1.5"), 0, Decimal("1.5"))


async def test_a_host_that_nobody_knows_or_that_is_silent_is_refused(
    house: House, payer: UUID
) -> None:
    unknown = await house.ask(payer, node_id=str(new_id()))
    assert (unknown.status_code, unknown.json()["field"]) == (404, "node_id")
    silent = await house.ask(payer, node_id=str(await house.host(state="silent")))
    assert (silent.status_code, silent.json()["code"]) == (409, "host_not_offered")
    assert (await house.wallet(payer))[1] == 0


async def test_a_price_change_reaches_new_starts_only(house: House, payer: UUID) -> None:
    body = {"id": str(new_id()), "instance_id": str(new_id())}
    before = kept(await house.ask(payer, **body))
    price = {"list_price_per_hour": "4", "price_per_hour": "3"}
    path = "/api/v1/prices/GeForce RTX 4090"
    assert (await house.http.put(path, json=price, headers=house.operator)).status_code == 200
    assert kept(await house.ask(payer, **body)) == before
    assert (await house.ask(payer)).json()["price_per_hour"] == "3.0000"


@pytest.mark.parametrize(
    "caller",
    [{"status": AccountStatus.pending}, {"status": AccountStatus.disabled}, {"role": Role.service}],
    ids=["pending", "disabled", "service"],
)
async def test_only_active_people_can_promise_their_money(
    house: House, payer: UUID, caller: dict[str, object]
) -> None:
    body = {
        "id": str(new_id()), "instance_id": str(new_id()), "node_id": str(house.host_id),
        "gpu_count": 1, "mode": "gpu",
    }  # fmt: skip
    headers = house.of(payer, **caller)
    answer = await house.http.post("/internal/authorisations", json=body, headers=headers)
    assert answer.status_code == 403
    assert (await house.wallet(payer))[1] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu_count", 0), ("gpu_count", 65), ("gpu_count", "1"), ("mode", "tpu"),
        ("id", "x"), ("node_id", None), ("account_id", "01920000-0000-7000-8000-000000000000"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(house: House, payer: UUID, field: str, value: object) -> None:
    answer = await house.ask(payer, **{field: value})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_an_abandoned_start_gives_its_hold_back_once(house: House, payer: UUID) -> None:
    kept, run = await house.authorised(payer), await house.authorised(payer)
    for _ in range(2):
        await house.tell(run.abandoned())
    assert await house.state_of(run) == ("void", 0)
    assert await house.state_of(kept) == ("open", PRICE)
    assert await house.wallet(payer) == (100, PRICE, 100 - PRICE)


async def test_a_start_that_never_comes_gives_its_hold_back(open_house: Opener) -> None:
    async with open_house(authorisation_lives_s=0) as house:
        payer = await house.account("100")
        run = await house.authorised(payer)
        await expire_all(house.tools)
        assert await house.state_of(run) == ("expired", 0)
        assert await house.wallet(payer) == (100, 0, 100)


async def test_a_hold_that_is_not_due_stays(house: House, payer: UUID) -> None:
    run = await house.authorised(payer)
    await expire_all(house.tools)
    assert await house.state_of(run) == ("open", PRICE)
    due = (await house.rows("SELECT expires_at FROM authorisations"))[0][0]
    assert timedelta(hours=23) < due - utc_now() <= timedelta(hours=24)


async def test_a_start_after_its_hold_expired_is_billed_and_secured_again(
    open_house: Opener,
) -> None:
    async with open_house(authorisation_lives_s=0) as house:
        payer = await house.account("100")
        run = await house.authorised(payer)
        await expire_all(house.tools)
        await house.tell(run.started(at()))
        assert await house.state_of(run) == ("active", PRICE)
        await house.tell(run.stopped(at(hours=1)))
        assert await house.wallet(payer) == (100 - PRICE, 0, 100 - PRICE)


async def test_an_expired_start_can_still_be_abandoned(open_house: Opener) -> None:
    async with open_house(authorisation_lives_s=0) as house:
        run = await house.authorised(await house.account("100"))
        await expire_all(house.tools)
        await house.tell(run.abandoned())
        assert await house.state_of(run) == ("void", 0)
