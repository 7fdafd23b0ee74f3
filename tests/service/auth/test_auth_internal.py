"""What other services ask of auth."""

import pytest

from tests.service.auth.conftest import SECRET, House, Opener, credentials


@pytest.mark.parametrize(
    ("service", "secret"), [("storage", "wrong"), ("unknown", SECRET), ("", SECRET)]
)
async def test_a_service_without_its_secret_gets_no_token(
    house: House, service: str, secret: str
) -> None:
    body = {"service": service, "secret": secret}
    answer = await house.http.post("/internal/service-tokens", json=body)
    assert answer.status_code in (401, 422)


async def test_a_service_is_nobody_at_the_public_routes(house: House) -> None:
    answer = await house.http.get("/api/v1/accounts/me", headers=await house.service())
    assert answer.status_code == 403


async def test_a_door_checks_a_password_and_learns_who_it_is(house: House) -> None:
    account = await house.active()
    service = await house.service()

    async def check(password: str) -> tuple[int, dict[str, str]]:
        body = {"username": account["username"], "password": password}
        answer = await house.http.post("/internal/password-checks", json=body, headers=service)
        return answer.status_code, answer.json()

    assert await check(account["password"]) == (
        200,
        {
            "account_id": account["id"],
            "username": account["username"],
            "role": "user",
            "status": "active",
        },
    )
    assert (await check("not the password"))[0] == 401
    await house.move(account, "disable", reason="test")
    assert (await check(account["password"]))[0] == 403


async def test_people_cannot_check_passwords_here(house: House) -> None:
    account = await house.register()
    path, body = "/internal/password-checks", credentials(account)
    assert (await house.http.post(path, json=body)).status_code == 401
    operator = await house.operator()
    assert (await house.http.post(path, json=body, headers=operator)).status_code == 403


async def test_guesses_at_a_door_count_as_logins(open_house: Opener) -> None:
    async with open_house(failed_logins_per_account=2) as house:
        account = await house.register()
        service = await house.service()
        wrong = {**credentials(account), "password": "guess"}
        for status in (401, 401, 429):
            answer = await house.http.post("/internal/password-checks", json=wrong, headers=service)
            assert answer.status_code == status
        login = await house.http.post("/api/v1/sessions", json=credentials(account))
        assert login.status_code == 429
