"""Accounts over the real API."""

import asyncio
import json

import pytest

from shared.ids import new_id
from tests.service.auth.conftest import House, Opener, bearer, credentials, registration


async def test_a_new_account_waits_and_is_usable_once_approved(house: House) -> None:
    account = await house.register()
    assert account["status"] == "pending"
    pending = bearer(await house.log_in(account))
    me = await house.http.get("/api/v1/accounts/me", headers=pending)
    assert me.json()["status"] == "pending"
    refused = await house.http.get("/api/v1/ssh-keys", headers=pending)
    assert (refused.status_code, refused.json()["code"]) == (403, "awaiting_approval")
    approved = await house.move(account, "approve")
    assert approved.json()["status"] == "active"
    active = bearer(await house.log_in(account))
    assert (await house.http.get("/api/v1/ssh-keys", headers=active)).status_code == 200


async def test_a_rejected_account_sees_why_and_may_still_be_approved(house: House) -> None:
    account = await house.register()
    rejected = await house.move(account, "reject", reason="材料不全")
    assert rejected.json()["status"] == "rejected"
    granted = await house.log_in(account)
    assert granted["account"]["status_reason"] == "材料不全"
    assert (await house.move(account, "approve")).json()["status"] == "active"


async def test_an_illegal_move_names_the_allowed_ones(house: House) -> None:
    account = await house.active()
    refusal = await house.move(account, "approve")
    assert refusal.status_code == 409
    assert refusal.json()["code"] == "illegal_transition"
    assert refusal.json()["allowed"] == ["disable"]


async def test_a_taken_name_or_address_is_named(house: House) -> None:
    account = await house.register("ada")
    for changes, field in (
        ({"email": "other@example.org"}, "username"),
        ({"username": "other", "email": account["email"].upper()}, "email"),
    ):
        body = {**registration("ada"), **changes}
        answer = await house.http.post("/api/v1/accounts", json=body)
        assert (answer.status_code, answer.json()["field"]) == (409, field)


async def test_of_many_registrations_of_one_name_at_once_one_wins(house: House) -> None:
    answers = await asyncio.gather(
        *(house.http.post("/api/v1/accounts", json=registration("ada")) for _ in range(6))
    )
    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409, 409, 409]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "Ada"),
        ("username", "ab"),
        ("username", "1ada"),
        ("username", "ada\n"),
        ("username", "a" * 33),
        ("email", "nowhere"),
        ("email", "a@b.c\x00"),
        ("phone", "call me"),
        ("organisation", ""),
        ("organisation", "a\x00b"),
        ("purpose", "x" * 2001),
        ("password", "short"),
        ("password", "x" * 129),
        ("password", "\ud800" * 12),
        ("role", "operator"),
        ("status", "active"),
    ],
)
async def test_a_wrong_field_is_named_and_no_secret_comes_back(
    house: House, field: str, value: str
) -> None:
    # Escaped by hand: httpx cannot send the lone surrogate that a client could.
    content = json.dumps({**registration("ada"), field: value})
    answer = await house.http.post(
        "/api/v1/accounts", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
    assert "password of ada" not in answer.text


async def test_the_operators_name_cannot_be_registered(house: House) -> None:
    answer = await house.http.post("/api/v1/accounts", json=registration("root"))
    assert (answer.status_code, answer.json()["code"]) == (409, "username_taken")


async def test_people_change_their_profile_but_not_to_anothers_address(house: House) -> None:
    ada, bob = await house.register(), await house.register()
    headers = bearer(await house.log_in(ada))
    changed = await house.http.patch(
        "/api/v1/accounts/me", json={"phone": "027 1234567"}, headers=headers
    )
    assert (changed.json()["phone"], changed.json()["email"]) == ("027 1234567", ada["email"])
    taken = await house.http.patch(
        "/api/v1/accounts/me", json={"email": bob["email"].upper()}, headers=headers
    )
    assert (taken.status_code, taken.json()["field"]) == (409, "email")


async def test_only_operators_see_and_judge_accounts(house: House) -> None:
    account = await house.active()
    headers = bearer(await house.log_in(account))
    for method, path in (
        ("GET", "/api/v1/accounts"),
        ("GET", f"/api/v1/accounts/{account['id']}"),
        ("POST", f"/api/v1/accounts/{account['id']}/approve"),
        ("GET", "/api/v1/audit"),
    ):
        assert (await house.http.request(method, path, headers=headers)).status_code == 403
        assert (await house.http.request(method, path)).status_code == 401


async def test_operators_find_accounts_by_state_and_words(house: House) -> None:
    await house.register("ada-lovelace")
    await house.active("bob_percent")
    operator = await house.operator()

    async def names(**query: str) -> list[str]:
        page = await house.http.get("/api/v1/accounts", params=query, headers=operator)
        return [item["username"] for item in page.json()["items"]]

    assert await names(status="pending") == ["ada-lovelace"]
    assert await names(q="LOVELACE") == ["ada-lovelace"]
    assert await names(q="%") == []
    assert set(await names()) == {"admin", "ada-lovelace", "bob_percent"}
    missing = await house.http.get(f"/api/v1/accounts/{new_id()}", headers=operator)
    assert missing.status_code == 404


async def test_disabling_ends_sessions_and_keeps_the_account_out(house: House) -> None:
    account = await house.active()
    granted = await house.log_in(account)
    assert (await house.move(account, "disable", reason="挖矿")).json()["status"] == "disabled"
    assert (await house.refresh(granted["refresh_token"])).status_code == 401
    late = await house.http.patch(
        "/api/v1/accounts/me", json={"phone": "13800138001"}, headers=bearer(granted)
    )
    assert late.status_code == 401
    refused = await house.http.post("/api/v1/sessions", json=credentials(account))
    assert (refused.status_code, refused.json()["code"]) == (403, "account_disabled")
    assert (await house.move(account, "enable")).json()["status"] == "active"
    assert (await house.refresh(granted["refresh_token"])).status_code == 401
    await house.log_in(account)


async def test_an_operator_cannot_lock_the_door_behind_themselves(house: House) -> None:
    operator = await house.operator()
    me = (await house.http.get("/api/v1/accounts/me", headers=operator)).json()
    refusal = await house.move(me, "disable", reason="oops")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "own_account")


async def test_a_second_start_makes_no_second_operator(open_house: Opener) -> None:
    async with open_house() as first:
        before = await first.http.get("/api/v1/accounts/me", headers=await first.operator())
    async with open_house() as second:
        after = await second.http.get("/api/v1/accounts/me", headers=await second.operator())
        listed = await second.http.get("/api/v1/accounts", headers=await second.operator())
    assert before.json()["role"] == "operator"
    assert before.json()["id"] == after.json()["id"]
    assert listed.json()["total"] == 1
