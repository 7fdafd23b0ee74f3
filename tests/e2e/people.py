"""What people do at the public API, as small steps."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from shared.ids import new_id
from tests.e2e.waiting import until

Json = dict[str, Any]


@dataclass
class Person:
    http: httpx.AsyncClient
    username: str
    password: str
    account: Json

    async def get(self, path: str, /, **parameters: Any) -> Any:
        return _ok(await self.http.get(f"/api/v1{path}", params=parameters))

    async def post(self, path: str, body: Json | None = None) -> Any:
        headers = {"idempotency-key": str(new_id())}
        return _ok(await self.http.post(f"/api/v1{path}", json=body or {}, headers=headers))

    async def instance_in(self, instance_id: str, *states: str, timeout_s: float = 120) -> Json:
        """The instance, once it is in one of these states."""
        found: Json = {}

        async def arrived() -> bool:
            found.update(await self.get(f"/instances/{instance_id}"))
            return found["status"] in states

        try:
            await until(arrived, timeout_s=timeout_s, what=f"{instance_id} becomes {states}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; it is {found}") from None
        return found


def _ok(response: httpx.Response) -> Any:
    assert response.is_success, f"{response.request.method} {response.url}: {response.text}"
    return response.json() if response.content else None


async def log_in(url: str, username: str, password: str) -> Person:
    http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=30)
    answer = _ok(
        await http.post("/api/v1/sessions", json={"username": username, "password": password})
    )
    http.headers["authorization"] = f"Bearer {answer['access_token']}"
    return Person(http, username, password, answer["account"])


async def register(url: str) -> Person:
    """A new account, still pending, logged in."""
    username = f"u{new_id().hex[-12:]}"
    password = f"pass-{new_id().hex}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        _ok(
            await http.post(
                "/api/v1/accounts",
                json={
                    "username": username,
                    "email": f"{username}@example.org",
                    "phone": "13800138000",
                    "organisation": "湖北医疗器械",
                    "purpose": "肺结节检测算法研发",
                    "password": password,
                },
            )
        )
    return await log_in(url, username, password)


async def approved(url: str, operator: Person, *, credit: str | None = "1000.00") -> Person:
    """A new account that may do everything, with money in the wallet."""
    pending = await register(url)
    await operator.post(f"/accounts/{pending.account['id']}/approve")
    if credit is not None:
        await operator.post(
            f"/wallets/{pending.account['id']}/credits", {"amount": credit, "note": "test"}
        )
    return await log_in(url, pending.username, pending.password)


async def run(*command: str, stdin: bytes | None = None, timeout_s: float = 60) -> str:
    """A program of the machine, as a person would type it; its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command}: {errors.decode()}{output.decode()}"
    return output.decode()
