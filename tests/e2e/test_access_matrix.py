"""Every route × every kind of caller, generated from the joined OpenAPI document."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.doors import rent
from tests.e2e.people import Json, Person, approved, register
from tests.e2e.platform import RunningPlatform

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


# What a route needs before it looks at whose object it is.
BODIES: dict[str, Json] = {
    "/api/v1/instances/{instance_id}/start": {"mode": "cpu"},
    "/api/v1/instances/{instance_id}/save": {"name": "theirs"},
    "/api/v1/images/{image_id}": {"name": "theirs"},
}


@pytest.fixture(scope="module")
async def belongings(user: Person, key: Path, image: Json) -> dict[str, str]:
    """One of everything that a user can own, by the placeholder that names it."""
    instance = await user.instance_in((await rent(user, image))["id"], "running")
    saved = f"mine-{instance['short_name']}"
    await user.post(f"/instances/{instance['id']}/save", {"name": saved})
    await user.instance_in(instance["id"], "running")
    return {
        "instance_id": instance["id"],
        "image_id": (await user.get("/images", tab="mine", name=saved))["items"][0]["id"],
        "key_id": (await user.get("/ssh-keys"))["items"][0]["id"],
        "session_id": (await user.get("/sessions"))["items"][0]["id"],
        "app": "jupyterlab",
    }


@pytest.mark.docker
async def test_another_user_reaches_no_object_of_mine_by_any_route(
    platform: RunningPlatform,
    operator: Person,
    user: Person,
    document: dict[str, Any],
    belongings: dict[str, str],
) -> None:
    stranger = await approved(platform.url, operator)
    before = await everything_of(user, belongings)
    for path in ("/instances", "/images", "/ssh-keys", "/bills", "/files"):
        assert (await stranger.get(path, tab="mine"))["items"] == []
    tried, reached = 0, []
    for route in routes(document):
        if route.policy not in ("active", "any_account") or "{" not in route.path:
            continue
        if route.path.endswith("/{offer_id}"):
            continue  # the market is everybody's
        path = route.path.format(**belongings)
        body = BODIES.get(route.path, {}) if route.method != "get" else None
        answer = await stranger.http.request(route.method, path, json=body)
        tried += 1
        if answer.status_code not in (403, 404):
            reached.append((str(route), answer.status_code, answer.text[:200]))
    await stranger.http.aclose()
    assert reached == []
    assert tried >= 14
    assert await everything_of(user, belongings) == before


async def everything_of(user: Person, belongings: dict[str, str]) -> list[Any]:
    return [
        await user.get(f"/instances/{belongings['instance_id']}"),
        await user.get(f"/images/{belongings['image_id']}"),
        await user.get("/ssh-keys"),
        [session["id"] for session in (await user.get("/sessions"))["items"]],
    ]


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
