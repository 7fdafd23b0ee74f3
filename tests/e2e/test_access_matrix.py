"""Every route × every kind of caller, generated from the joined OpenAPI document."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import RunningPlatform
from tests.e2e.people import Person, approved, log_in, register

pytestmark = pytest.mark.timeout(600)

POLICIES = {"public", "any_account", "active", "operator"}
METHODS = ("get", "post", "put", "patch", "delete")
UNKNOWN = "01920000-0000-7000-8000-000000000000"


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    policy: str

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    async def call(self, http: httpx.AsyncClient, identifier: str = UNKNOWN) -> httpx.Response:
        """With every placeholder filled by `identifier` and an empty body where one is taken."""
        path = self.path
        while "{" in path:
            before, _, rest = path.partition("{")
            path = f"{before}{identifier}{rest.partition('}')[2]}"
        body: dict[str, Any] = {"json": {}} if self.method in ("post", "put", "patch") else {}
        return await http.request(self.method, path, **body)


@pytest.fixture(scope="module")
async def document(platform: RunningPlatform) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        found: dict[str, Any] = (await http.get("/api/openapi.json")).json()
    return found


def routes(document: dict[str, Any]) -> Iterator[Route]:
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                yield Route(method, path, operations[method].get("x-policy", "none"))


@pytest.fixture(scope="module")
async def operator(platform: RunningPlatform) -> AsyncIterator[Person]:
    password = (platform.home / "operator-password").read_text().strip()
    person = await log_in(platform.url, "admin", password)
    yield person
    await person.http.aclose()


def test_every_route_states_a_policy(document: dict[str, Any]) -> None:
    found = list(routes(document))
    assert len(found) > 25
    assert [str(r) for r in found if r.policy not in POLICIES] == []


async def test_without_a_token_only_public_routes_answer(
    platform: RunningPlatform, document: dict[str, Any]
) -> None:
    open_doors = []
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        for route in routes(document):
            answer = await route.call(http)
            if route.policy != "public" and answer.status_code != 401:
                open_doors.append((str(route), answer.status_code))
    assert open_doors == []


async def test_a_pending_user_is_refused_wherever_approval_is_needed(
    platform: RunningPlatform, document: dict[str, Any]
) -> None:
    pending = await register(platform.url)
    passed = []
    for route in routes(document):
        if route.policy in ("active", "operator"):
            answer = await route.call(pending.http)
            if answer.status_code != 403:
                passed.append((str(route), answer.status_code))
    await pending.http.aclose()
    assert passed == []


async def test_a_user_is_refused_wherever_an_operator_is_needed(
    platform: RunningPlatform, operator: Person, document: dict[str, Any]
) -> None:
    user = await approved(platform.url, operator, credit=None)
    passed = []
    for route in routes(document):
        if route.policy == "operator":
            answer = await route.call(user.http)
            if answer.status_code != 403:
                passed.append((str(route), answer.status_code))
    await user.http.aclose()
    assert passed == []


async def test_internal_routes_are_not_reachable_from_outside(platform: RunningPlatform) -> None:
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        for path in (
            "/internal/service-tokens",
            "/api/v1/../../internal/service-tokens",
            "/api/v1/accounts/%2e%2e/%2e%2e/%2e%2e/internal/service-tokens",
            "//internal/service-tokens",
        ):
            answer = await http.post(path, json={"service": "market", "secret": "guess"})
            assert answer.status_code in (400, 404), (path, answer.status_code)
