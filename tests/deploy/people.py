"""Who calls the split platform from outside, through TLS with the CA of its own."""

from dataclasses import dataclass
from typing import Any

import httpx

from shared.ids import new_id
from tests.deploy.stack import Stack
from tests.e2e.waiting import until

FACTS_WITHIN_S = 60
Json = dict[str, Any]


@dataclass
class Person:
    http: httpx.AsyncClient
    account: Json

    async def call(self, method: str, path: str, body: Json | None = None) -> Any:
        headers = {"idempotency-key": str(new_id())} if method == "POST" else {}
        return answered(
            await self.http.request(method, f"/api/v1{path}", json=body, headers=headers)
        )

    async def has_a_wallet(self) -> None:
        """It comes with a fact of another service: over outbox, broker and inbox."""

        async def came() -> bool:
            return (await self.http.get("/api/v1/wallet")).is_success

        await until(came, timeout_s=FACTS_WITHIN_S, what="the market heard of the account")


def answered(response: httpx.Response) -> Any:
    assert response.is_success, f"{response.request.method} {response.url}: {response.text}"
    return response.json() if response.content else None


async def log_in(stack: Stack, username: str, password: str) -> Person:
    http = stack.client()
    body = {"username": username, "password": password}
    answer = answered(await http.post("/api/v1/sessions", json=body))
    http.headers["authorization"] = f"Bearer {answer['access_token']}"
    return Person(http, answer["account"])


async def operator(stack: Stack) -> Person:
    return await log_in(stack, "admin", stack.secret("operator_password").read_text().strip())


async def approved(stack: Stack, by: Person) -> Person:
    username, password = f"u{new_id().hex[-12:]}", f"pass-{new_id().hex}"
    async with stack.client() as http:
        body = {
            "username": username,
            "email": f"{username}@example.org",
            "phone": "13800138000",
            "organisation": "湖北医疗器械",
            "purpose": "肺结节检测算法研发",
            "password": password,
        }
        account = answered(await http.post("/api/v1/accounts", json=body))
    await by.call("POST", f"/accounts/{account['id']}/approve", {})
    return await log_in(stack, username, password)
