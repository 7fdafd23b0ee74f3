"""What storage's SFTP door expects of auth: the client meets the real auth, the fake the same."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.storage.clients.auth import AuthClient, FakeAuth, HttpAuth, KnownAccount
from shared.errors import Unavailable
from shared.http import FetchedServiceToken, open_client
from shared.ids import new_id
from shared.tokens import AccountStatus
from tests.service.auth.conftest import OPERATOR_PASSWORD, bearer, credentials, registration
from tests.service.storage.conftest import SECRET, serve_auth

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIgYpCvERVhOvy4czWBq6fayxvamRePwuZD751eiCXb9"


@dataclass
class Case:
    client: AuthClient
    name: str
    password: str
    pending_name: str


async def _register(http: httpx.AsyncClient) -> dict[str, str]:
    body = registration(f"u{new_id().hex[-12:]}")
    answer = await http.post("/api/v1/accounts", json=body)
    return {**answer.json(), "password": body["password"]}


async def _real(http: httpx.AsyncClient) -> Case:
    active, pending = await _register(http), await _register(http)

    async def log_in(account: dict[str, str]) -> dict[str, str]:
        return bearer((await http.post("/api/v1/sessions", json=credentials(account))).json())

    operator = await log_in({"username": "admin", "password": OPERATOR_PASSWORD})
    await http.post(f"/api/v1/accounts/{active['id']}/approve", json={}, headers=operator)
    body = {"name": "k", "public_key": KEY}
    added = await http.post("/api/v1/ssh-keys", json=body, headers=await log_in(active))
    assert added.status_code == 201, added.text
    client = HttpAuth(http, FetchedServiceToken(http, "storage", SECRET))
    return Case(client, active["username"], active["password"], pending["username"])


def _fake() -> Case:
    def known(name: str, status: AccountStatus, *keys: str) -> KnownAccount:
        return KnownAccount(
            account_id=new_id(),
            username=name,
            status=status,
            ssh_keys=[f"{k} {name}" for k in keys],
        )

    accounts = {
        "lihua": known("lihua", AccountStatus.active, KEY),
        "pending": known("pending", AccountStatus.pending),
    }
    return Case(
        FakeAuth(accounts, {"lihua": "lihuas-password"}), "lihua", "lihuas-password", "pending"
    )


@pytest.fixture(params=["real", "fake"])
async def case(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Case]:
    if request.param == "fake":
        yield _fake()
        return
    with tempfile.TemporaryDirectory(prefix="chusuan-") as folder:
        async with (
            serve_auth(database_url, Path(folder), f"memory://{new_id()}") as url,
            open_client(url) as http,
        ):
            yield await _real(http)


async def test_an_account_is_found_with_its_keys_and_state(case: Case) -> None:
    found = await case.client.find(case.name)
    assert found is not None
    assert (found.username, found.is_active) == (case.name, True)
    assert found.ssh_keys == [f"{KEY} {case.name}"]
    pending = await case.client.find(case.pending_name)
    assert pending is not None
    assert not pending.is_active
    assert await case.client.find("nobody-here") is None


async def test_a_password_names_its_account_and_a_wrong_one_nobody(case: Case) -> None:
    proven = await case.client.check_password(case.name, case.password)
    assert proven is not None
    assert proven.username == case.name
    assert await case.client.check_password(case.name, "wrong") is None
    assert await case.client.check_password("nobody-here", case.password) is None


async def test_auth_away_is_not_a_refusal() -> None:
    async with open_client("http://127.0.0.1:1") as http:
        client = HttpAuth(http, FetchedServiceToken(http, "storage", SECRET))
        with pytest.raises(Unavailable):
            await client.find("lihua")
        with pytest.raises(Unavailable):
            await client.check_password("lihua", "password")
