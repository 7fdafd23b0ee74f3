"""What the gateway counts, and who may read it."""

import httpx
from prometheus_client import REGISTRY

from shared.ids import new_id
from shared.tokens import Role
from tests.service.gateway.conftest import Doorway, OpenDoorway
from tests.service.gateway.serving import free_port

ROUTE = "/api/v1/instances/…"


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def counted(route: str, status: str) -> float:
    return sample(
        "chusuan_http_requests_total",
        service="gateway", method="GET", route=route, status=status,
    )  # fmt: skip


async def test_no_metrics_leave_by_the_public_door(doorway: Doorway) -> None:
    for path in ("/metrics", "/api/v1/metrics", "/api/v1/instances/../../../metrics", "//metrics"):
        answer = await doorway.http.get(path)
        assert answer.status_code == 404, path
        assert "chusuan_" not in answer.text


async def test_metrics_are_read_on_a_listener_of_their_own(open_doorway: OpenDoorway) -> None:
    port = free_port()
    async with open_doorway(metrics_address=f"127.0.0.1:{port}") as doorway:
        await doorway.http.get("/healthz")
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert 'chusuan_http_requests_total{method="GET",route="/healthz"' in answer.text


async def test_calls_are_counted_by_their_first_word_and_upstreams_are_timed(
    doorway: Doorway,
) -> None:
    before = counted(ROUTE, "4xx"), counted("unknown", "4xx")
    timed = sample("chusuan_gateway_upstream_seconds_count", upstream="scheduler")
    await doorway.http.get(f"/api/v1/instances/{new_id()}", headers=doorway.identity.headers())
    await doorway.http.get(f"/api/v1/{new_id()}")
    assert (counted(ROUTE, "4xx"), counted("unknown", "4xx")) == (before[0] + 1, before[1] + 1)
    after = sample("chusuan_gateway_upstream_seconds_count", upstream="scheduler")
    assert after == timed + 1


async def test_an_open_socket_of_an_app_is_counted_while_it_is_open(doorway: Doorway) -> None:
    instance = doorway.new_instance()
    cookie = await doorway.opened(instance)
    before = sample("chusuan_websockets_open", service="gateway")
    async with doorway.socket(instance, "socket", cookie) as socket:
        await socket.send("hello")
        await socket.recv()
        assert sample("chusuan_websockets_open", service="gateway") == before + 1


async def test_refusals_for_number_are_counted(open_doorway: OpenDoorway) -> None:
    before = sample("chusuan_gateway_rate_limited_total")
    async with open_doorway(requests_per_minute=2) as doorway:
        for _ in range(4):
            await doorway.http.get("/api/v1/instances")
    assert sample("chusuan_gateway_rate_limited_total") == before + 2


async def test_an_operator_sees_every_part_and_which_does_not_answer(doorway: Doorway) -> None:
    operator = doorway.identity.headers(role=Role.operator)
    answer = await doorway.http.get("/api/v1/health", headers=operator)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["redis_alive"]
    health = {part["service"]: part["health"] for part in body["services"]}
    # The played parts know no such call: that is no answer.
    assert health["auth"] is None
    assert health["scheduler"]["bus_alive"]


async def test_the_health_of_the_platform_is_for_operators(doorway: Doorway) -> None:
    assert (await doorway.http.get("/api/v1/health")).status_code == 401
    user = await doorway.http.get("/api/v1/health", headers=doorway.identity.headers())
    assert user.status_code == 403
