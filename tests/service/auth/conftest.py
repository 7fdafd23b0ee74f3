"""The real auth on a real database, and people to use it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from services.auth.main import create_app
from services.auth.settings import AuthSettings
from shared.app import Runtime
from shared.bus.admission import Admission
from shared.database import Database
from shared.ids import new_id

OPERATOR_PASSWORD = "first-operator-password"
SECRET = "s" * 32
Json = dict[str, Any]


@dataclass
class House:
    """A running auth. `address`: whence the next requests seem to come."""

    app: FastAPI
    http: httpx.AsyncClient
    settings: AuthSettings

    @property
    def database(self) -> Database:
        runtime: Runtime = self.app.state.runtime
        return runtime.database

    async def register(self, username: str = "", **changes: str) -> Json:
        name = username or f"u{new_id().hex[-12:]}"
        body = registration(name, **changes)
        answer = await self.http.post("/api/v1/accounts", json=body)
        assert answer.status_code == 201, answer.text
        return {**answer.json(), "password": body["password"]}

    async def log_in(self, account: Json) -> Json:
        answer = await self.http.post("/api/v1/sessions", json=credentials(account))
        assert answer.status_code == 201, answer.text
        granted: Json = answer.json()
        return granted

    async def operator(self) -> dict[str, str]:
        return bearer(await self.log_in({"username": "admin", "password": OPERATOR_PASSWORD}))

    async def active(self, username: str = "") -> Json:
        """An approved account."""
        account = await self.register(username)
        answer = await self.move(account, "approve")
        assert answer.status_code == 200, answer.text
        return account

    async def move(self, account: Json, move: str, **body: str) -> httpx.Response:
        return await self.http.post(
            f"/api/v1/accounts/{account['id']}/{move}", json=body, headers=await self.operator()
        )

    async def refresh(self, token: str) -> httpx.Response:
        return await self.http.post("/api/v1/sessions/refresh", json={"refresh_token": token})

    async def service(self, name: str = "storage") -> dict[str, str]:
        body = {"service": name, "secret": SECRET}
        answer = await self.http.post("/internal/service-tokens", json=body)
        assert answer.status_code == 201, answer.text
        return bearer(answer.json())


def registration(username: str, **changes: str) -> Json:
    return {
        "username": username,
        "email": f"{username}@example.org",
        "phone": "13800138000",
        "organisation": "湖北医疗器械",
        "purpose": "肺结节检测算法研发",
        "password": f"password of {username}",
        **changes,
    }


def credentials(account: Json) -> Json:
    return {"username": account["username"], "password": account["password"]}


def bearer(granted: Json) -> dict[str, str]:
    return {"authorization": f"Bearer {granted['access_token']}"}


Opener = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(database_url: str, tmp_path: Path) -> Opener:
    """Start auth; a second start in the same test finds what the first left."""
    password_file = tmp_path / "operator-password"
    password_file.write_text(f"{OPERATOR_PASSWORD}\n")
    unique = new_id().hex

    @asynccontextmanager
    async def start(admission: Admission | None = None, **changes: Any) -> AsyncIterator[House]:
        values: dict[str, Any] = {
            "database_url": database_url,
            "bus_url": f"memory://{unique}",
            "redis_url": f"memory://{unique}",
            "auth_url": "http://127.0.0.1:1",
            "service_secret": SecretStr(SECRET),
            "signing_key_file": tmp_path / "keys" / "signing.pem",
            "first_operator_password_file": password_file,
            "service_secrets": {"storage": SecretStr(SECRET)},
            **changes,
        }
        settings = AuthSettings(**values)
        app = create_app(settings, admission=admission)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://auth") as http:
                yield House(app, http, settings)

    return start


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    async with open_house() as started:
        yield started
