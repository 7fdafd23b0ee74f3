"""Money is seen by its owner and by operators alone, and bad input is named, never a failure."""

from typing import Any
from uuid import UUID

import pytest

from shared.ids import new_id
from tests.service.market.conftest import House, at

NUL, HUGE = "a\x00b", "9" * 5000


async def test_another_users_wallet_and_bills_are_not_seen(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.stopped(at(hours=1)))
    stranger = await house.account("7")
    assert (await house.wallet(stranger))[0] == 7
    assert [e["amount"] for e in await house.entries(stranger)] == ["7.0000"]
    assert (await house.get(stranger, "/bills"))["total"] == 0
    assert (await house.get(payer, "/bills"))["total"] == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/wallets/{id}"), ("GET", "/wallets/{id}/entries"),
        ("POST", "/wallets/{id}/credits"), ("POST", "/wallets/{id}/corrections"),
        ("GET", "/prices"), ("PUT", "/prices/A100"),
    ],
)  # fmt: skip
async def test_operators_doors_are_closed_to_users(
    house: House, payer: UUID, method: str, path: str
) -> None:
    url = f"/api/v1{path}".replace("{id}", str(payer))
    body = {"amount": "5"} if method != "GET" else None
    answer = await house.http.request(method, url, json=body, headers=house.of(payer))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await house.wallet(payer))[0] == 100


async def test_an_operator_sees_any_wallet_and_its_entries(house: House, payer: UUID) -> None:
    shown = await house.http.get(f"/api/v1/wallets/{payer}", headers=house.operator)
    assert shown.json() == {
        "account_id": str(payer), "balance": "100.0000", "held": "0.0000",
        "available": "100.0000",
    }  # fmt: skip
    listed = await house.http.get(f"/api/v1/wallets/{payer}/entries", headers=house.operator)
    assert listed.json()["items"] == await house.entries(payer)


async def test_a_first_look_makes_an_empty_wallet_that_can_be_credited(house: House) -> None:
    account = new_id()
    assert await house.wallet(account) == (0, 0, 0)
    assert (await house.credit(account, "5")).status_code == 201


async def test_bills_show_what_runs_with_what_is_proven(house: House, payer: UUID) -> None:
    old = await house.running(payer)
    await house.tell(old.stopped(at(hours=1)))
    new = await house.running(payer, since=at(hours=2), mode="cpu", gpu_count=2)
    await house.authorised(payer)
    await house.tell(new.proven(at(hours=2, minutes=30)))
    items = (await house.get(payer, "/bills"))["items"]
    assert [(b["id"], b["settled"], b["ended_at"] is None) for b in items] == [
        (str(new.id), False, True), (str(old.id), True, False),
    ]  # fmt: skip
    assert items[0] == {
        "id": str(new.id), "instance_id": str(new.instance_id), "mode": "cpu", "gpu_count": 2,
        "node_name": "sim-4090", "gpu_model": "GeForce RTX 4090",
        "started_at": "2026-03-02T12:00:00Z", "ended_at": None, "seconds": 1800,
        "price_per_hour": "0.1000", "amount": "0.0500", "settled": False,
    }  # fmt: skip
    assert (await house.get(payer, "/bills", page=2, size=1))["items"] == items[1:]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "amount"), ({"amount": "0"}, "amount"), ({"amount": "-1"}, "amount"),
        ({"amount": "0.00001"}, "amount"), ({"amount": "1000000.01"}, "amount"),
        ({"amount": HUGE}, "amount"), ({"amount": "1e999999999"}, "amount"),
        ({"amount": "Infinity"}, "amount"), ({"amount": "NaN"}, "amount"),
        ({"amount": NUL}, "amount"), ({"amount": True, "note": []}, "amount"),
        ({"amount": "1", "note": NUL}, "note"), ({"amount": "1", "note": HUGE}, "note"),
        ({"amount": "1", "by": "me"}, "by"),
    ],
)  # fmt: skip
async def test_a_credit_that_makes_no_sense_names_its_field(
    house: House, payer: UUID, body: dict[str, Any], field: str
) -> None:
    answer = await house.http.post(
        f"/api/v1/wallets/{payer}/credits", json=body, headers=house.operator
    )
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (await house.wallet(payer))[0] == 100


async def test_half_a_character_in_a_note_is_refused(house: House, payer: UUID) -> None:
    answer = await house.http.post(
        f"/api/v1/wallets/{payer}/credits",
        content=b'{"amount": "1", "note": "\\ud800"}',
        headers={**house.operator, "content-type": "application/json"},
    )
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/offers", {"region": NUL}, "region"),
        ("/offers", {"model": [NUL]}, "model.0"),
        ("/offers", {"model": ["A"] * 51}, "model"),
        ("/offers", {"gpu_count": 0}, "gpu_count"),
        ("/offers", {"gpu_count": HUGE}, "gpu_count"),
        ("/offers", {"gpu_memory_min": "x"}, "gpu_memory_min"),
        ("/offers", {"price_max": "NaN"}, "price_max"),
        ("/offers", {"price_min": "1e999999"}, "price_min"),
        ("/offers", {"image_cuda": "12.x"}, "image_cuda"),
        ("/offers", {"image_cuda": "１２"}, "image_cuda"),
        ("/offers/nothing", {}, "offer_id"),
        ("/bills", {"page": 0}, "page"),
        ("/wallet/entries", {"size": 201}, "size"),
    ],
)
async def test_a_question_that_makes_no_sense_names_its_field(
    house: House, path: str, query: dict[str, Any], field: str
) -> None:
    answer = await house.http.get(f"/api/v1{path}", params=query, headers=house.of(new_id()))
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_model_name_with_a_nul_is_refused(house: House) -> None:
    body = {"list_price_per_hour": "3", "price_per_hour": "2.5"}
    answer = await house.http.put("/api/v1/prices/a%00b", json=body, headers=house.operator)
    assert answer.status_code == 422
