"""Login, refresh and logout over the real API."""

import asyncio
from datetime import timedelta

import jwt
from sqlalchemy import text

from tests.service.auth.conftest import House, Opener, bearer, credentials


async def age(house: House, by: timedelta) -> None:
    """As if all this had happened earlier."""
    used = "UPDATE refresh_tokens SET used_at = used_at - make_interval(secs => :by)"
    ends = "UPDATE sessions SET expires_at = expires_at - make_interval(secs => :by)"
    async with house.database.transaction() as session:
        for statement in (used, ends):
            await session.execute(text(statement), {"by": by.total_seconds()})


async def test_a_token_of_auth_is_what_every_service_accepts(house: House) -> None:
    granted = await house.log_in(await house.active())
    jwks = (await house.http.get("/.well-known/jwks.json")).json()
    [key] = jwt.PyJWKSet.from_dict(jwks).keys
    claims = jwt.decode(
        granted["access_token"],
        key.key,
        algorithms=["EdDSA"],
        audience="chusuan-api",
        issuer="chusuan",
    )
    assert claims["exp"] - claims["iat"] == granted["expires_in"] == 900
    assert (claims["typ"], claims["sub"]) == ("access", granted["account"]["id"])
    assert claims["status"] == "active"
    assert claims["sid"]


async def test_unknown_names_and_wrong_passwords_look_the_same(house: House) -> None:
    account = await house.register()
    wrong = {**credentials(account), "password": "not the password"}
    unknown = {**wrong, "username": "nobody-here"}
    answers = [await house.http.post("/api/v1/sessions", json=body) for body in (wrong, unknown)]
    assert [a.status_code for a in answers] == [401, 401]
    first, second = ({**a.json(), "request_id": None} for a in answers)
    assert first == second


async def test_rotation_gives_each_token_one_successor(house: House) -> None:
    granted = await house.log_in(await house.register())
    second = (await house.refresh(granted["refresh_token"])).json()
    third = (await house.refresh(second["refresh_token"])).json()
    tokens = {granted["refresh_token"], second["refresh_token"], third["refresh_token"]}
    assert len(tokens) == 3
    me = await house.http.get("/api/v1/accounts/me", headers=bearer(third))
    assert me.status_code == 200


async def test_many_refreshes_at_once_get_the_same_successor(house: House) -> None:
    granted = await house.log_in(await house.register())
    answers = await asyncio.gather(*(house.refresh(granted["refresh_token"]) for _ in range(8)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["refresh_token"] for a in answers}) == 1
    async with house.database.transaction() as session:
        count = await session.execute(text("SELECT count(*) FROM refresh_tokens"))
        assert count.scalar_one() == 2


async def test_a_token_used_again_after_the_grace_ends_the_whole_family(house: House) -> None:
    granted = await house.log_in(await house.register())
    successor = (await house.refresh(granted["refresh_token"])).json()
    await age(house, timedelta(seconds=11))
    assert (await house.refresh(granted["refresh_token"])).status_code == 401
    assert (await house.refresh(successor["refresh_token"])).status_code == 401
    trail = await house.http.get(
        "/api/v1/audit", params={"type": "auth.session.token"}, headers=await house.operator()
    )
    assert trail.json()["total"] == 1


async def test_a_session_ends_thirty_days_after_login_whatever_is_refreshed(house: House) -> None:
    granted = await house.log_in(await house.register())
    await age(house, timedelta(days=29, hours=23))
    second = await house.refresh(granted["refresh_token"])
    assert second.status_code == 201
    await age(house, timedelta(hours=1))
    assert (await house.refresh(second.json()["refresh_token"])).status_code == 401


async def test_the_database_holds_no_token_in_clear(house: House) -> None:
    granted = await house.log_in(await house.register())
    async with house.database.transaction() as session:
        rows = await session.execute(text("SELECT refresh_tokens::text FROM refresh_tokens"))
        stored = " ".join(rows.scalars())
    assert granted["refresh_token"] not in stored
    assert granted["refresh_token"].encode().hex() not in stored


async def test_logging_out_ends_this_session_and_no_other(house: House) -> None:
    account = await house.register()
    one, two = await house.log_in(account), await house.log_in(account)
    listed = await house.http.get("/api/v1/sessions", headers=bearer(one))
    assert sorted(item["current"] for item in listed.json()["items"]) == [False, True]
    left = await house.http.delete("/api/v1/sessions/current", headers=bearer(one))
    assert left.status_code == 204
    assert (await house.refresh(one["refresh_token"])).status_code == 401
    assert (await house.refresh(two["refresh_token"])).status_code == 201


async def test_one_cannot_end_anothers_session(house: House) -> None:
    ada = await house.log_in(await house.register())
    bob = await house.log_in(await house.register())
    listed = await house.http.get("/api/v1/sessions", headers=bearer(ada))
    [session] = listed.json()["items"]
    path = f"/api/v1/sessions/{session['id']}"
    assert (await house.http.delete(path, headers=bearer(bob))).status_code == 404
    assert (await house.http.delete(path, headers=bearer(ada))).status_code == 204


async def test_a_new_password_ends_all_other_sessions(house: House) -> None:
    account = await house.register()
    here, there = await house.log_in(account), await house.log_in(account)

    async def change(current: str, new: str) -> int:
        body = {"current_password": current, "new_password": new}
        answer = await house.http.post(
            "/api/v1/accounts/me/password", json=body, headers=bearer(here)
        )
        return answer.status_code

    assert await change("not the current one", "another password") == 422
    assert await change(account["password"], "another password") == 204
    assert (await house.refresh(there["refresh_token"])).status_code == 401
    assert (await house.refresh(here["refresh_token"])).status_code == 201
    old = await house.http.post("/api/v1/sessions", json=credentials(account))
    assert old.status_code == 401
    await house.log_in({**account, "password": "another password"})


async def test_guessing_one_account_is_stopped_even_all_at_once(open_house: Opener) -> None:
    async with open_house(failed_logins_per_account=3) as house:
        account = await house.register()
        wrong = {**credentials(account), "password": "guess"}
        answers = await asyncio.gather(
            *(house.http.post("/api/v1/sessions", json=wrong) for _ in range(8))
        )
        assert sorted(a.status_code for a in answers) == [401] * 3 + [429] * 5
        right = await house.http.post("/api/v1/sessions", json=credentials(account))
        assert right.status_code == 429
        assert 0 < int(right.headers["retry-after"]) <= 900
        assert right.json()["code"] == "too_many_attempts"
        await house.operator()


async def test_guessing_from_one_address_is_stopped_and_others_go_on(open_house: Opener) -> None:
    async with open_house(failed_logins_per_address=3) as house:
        account = await house.register()

        async def attempt(address: str, username: str) -> int:
            body = {"username": username, "password": "guess"}
            headers = {"x-forwarded-for": f"203.0.113.1, {address}"}
            return (
                await house.http.post("/api/v1/sessions", json=body, headers=headers)
            ).status_code

        statuses = [await attempt("198.51.100.7", f"user-{n}") for n in range(4)]
        assert statuses == [401, 401, 401, 429]
        assert await attempt("198.51.100.8", account["username"]) == 401


async def test_successful_logins_are_never_throttled(open_house: Opener) -> None:
    async with open_house(failed_logins_per_account=2, failed_logins_per_address=2) as house:
        account = await house.register()
        for _ in range(5):
            await house.log_in(account)


async def test_disabling_while_people_log_in_leaves_no_live_session(house: House) -> None:
    account = await house.active()
    operator = await house.operator()
    logins = [house.http.post("/api/v1/sessions", json=credentials(account)) for _ in range(6)]
    disable = house.http.post(
        f"/api/v1/accounts/{account['id']}/disable", json={"reason": "test"}, headers=operator
    )
    await asyncio.gather(*logins[:3], disable, *logins[3:])
    async with house.database.transaction() as session:
        live = await session.execute(
            text("SELECT count(*) FROM sessions WHERE account_id = :id AND ended_at IS NULL"),
            {"id": account["id"]},
        )
        assert live.scalar_one() == 0
