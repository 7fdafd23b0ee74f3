"""SSH keys over the real API, and who else learns of them."""

import asyncssh
import pytest

from services.auth import ssh_access
from tests.service.auth.conftest import House, bearer


def public_line() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


async def test_a_key_is_added_listed_and_removed_by_its_owner_alone(house: House) -> None:
    ada = await house.active()
    headers, line = bearer(await house.log_in(ada)), public_line()
    body = {"name": "laptop", "public_key": f"{line} ada@laptop"}
    added = await house.http.post("/api/v1/ssh-keys", json=body, headers=headers)
    assert added.status_code == 201
    assert added.json()["public_key"] == line
    again = await house.http.post("/api/v1/ssh-keys", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "ssh_key_taken")
    bob = bearer(await house.log_in(await house.active()))
    path = f"/api/v1/ssh-keys/{added.json()['id']}"
    assert (await house.http.delete(path, headers=bob)).status_code == 404
    assert (await house.http.get("/api/v1/ssh-keys", headers=bob)).json()["total"] == 0
    assert (await house.http.post("/api/v1/ssh-keys", json=body, headers=bob)).status_code == 201
    assert (await house.http.delete(path, headers=headers)).status_code == 204
    assert (await house.http.get("/api/v1/ssh-keys", headers=headers)).json()["items"] == []


async def test_the_same_idempotency_key_adds_one_key(house: House) -> None:
    headers = bearer(await house.log_in(await house.active()))
    headers["idempotency-key"] = "the-same-key"
    body = {"name": "laptop", "public_key": public_line()}
    answers = [
        await house.http.post("/api/v1/ssh-keys", json=body, headers=headers) for _ in range(2)
    ]
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("key", ["ssh-ed25519 AAAA", 'command="x" ssh-ed25519 AAAA', "\x00"])
async def test_an_unusable_key_is_refused_by_name(house: House, key: str) -> None:
    headers = bearer(await house.log_in(await house.active()))
    body = {"name": "laptop", "public_key": key}
    answer = await house.http.post("/api/v1/ssh-keys", json=body, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (422, "public_key")


async def test_there_is_a_limit_to_keys(house: House) -> None:
    headers = bearer(await house.log_in(await house.active()))
    for number in range(ssh_access.KEYS_LIMIT + 1):
        body = {"name": f"key {number}", "public_key": public_line()}
        answer = await house.http.post("/api/v1/ssh-keys", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_ssh_keys")


async def test_services_learn_an_accounts_keys_by_name(house: House) -> None:
    ada = await house.active("ada")
    line = public_line()
    body = {"name": "laptop", "public_key": f"{line} evil\tcomment"}
    headers = bearer(await house.log_in(ada))
    await house.http.post("/api/v1/ssh-keys", json=body, headers=headers)
    path = "/internal/accounts/by-name/ada"
    known = await house.http.get(path, headers=await house.service())
    assert known.json() == {
        "account_id": ada["id"],
        "username": "ada",
        "role": "user",
        "status": "active",
        "ssh_keys": [f"{line} ada"],
    }
    assert (await house.http.get(path, headers=headers)).status_code == 403
    unknown = await house.http.get("/internal/accounts/by-name/bob", headers=await house.service())
    assert unknown.status_code == 404
