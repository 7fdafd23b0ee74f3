"""What the scheduler counts about itself, and how it says how it is."""

from uuid import UUID

from prometheus_client import REGISTRY

from shared.ids import new_id
from shared.tokens import Role
from tests.service.scheduler.conftest import Agent, House, Json


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def requests(route: str, status: str) -> float:
    return sample(
        "chusuan_http_requests_total",
        service="scheduler", method="GET", route=route, status=status,
    )  # fmt: skip


async def test_requests_are_counted_by_route_template_never_by_path(house: House) -> None:
    route = "/api/v1/instances/{instance_id}"
    before = requests(route, "4xx")
    for _ in range(3):
        await house.http.get(f"/api/v1/instances/{new_id()}", headers=house.headers())
    assert requests(route, "4xx") == before + 3
    unknown = requests("unknown", "4xx")
    await house.http.get(f"/nothing/{new_id()}")
    assert requests("unknown", "4xx") == unknown + 1
    routes = {
        s.labels["route"] for m in REGISTRY.collect() for s in m.samples if "route" in s.labels
    }
    assert all("-7" not in route for route in routes)


async def test_what_a_caller_makes_up_makes_no_series(house: House) -> None:
    await house.http.request("BREW", "/api/v1/instances", headers=house.headers())
    methods = {s.labels.get("method") for m in REGISTRY.collect() for s in m.samples}
    assert "BREW" not in methods


async def test_hosts_gpus_and_instances_show_as_gauges(house: House, agent: Agent) -> None:
    await house.running(agent, gpu_count=3)
    health = await _health(house)
    assert sample("chusuan_scheduler_nodes", state="online") == 1
    assert sample("chusuan_scheduler_instances", state="running") == 1
    assert sample("chusuan_scheduler_gpus", kind="total") == 4
    assert sample("chusuan_scheduler_gpus", kind="free") == 1
    assert sample("chusuan_scheduler_gpus", kind="promised") == 3
    assert health["database"]["figures"]["nodes_online"] == 1


async def test_an_instance_that_stays_on_its_way_grows_old(house: House, agent: Agent) -> None:
    rented = await house.rent(agent)
    async with house.tools.database.engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE instance_history SET at = at - interval '1 hour' WHERE instance_id = $1",
            (UUID(rented["id"]),),
        )
    await _health(house)
    assert sample("chusuan_scheduler_oldest_seconds", state="creating") >= 3600
    assert sample("chusuan_scheduler_oldest_seconds", state="starting") == 0


async def test_health_tells_the_services_and_nobody_else(house: House) -> None:
    assert (await house.http.get("/internal/health")).status_code == 401
    for role in (Role.user, Role.operator):
        answer = await house.http.get("/internal/health", headers=house.headers(role=role))
        assert answer.status_code == 403
    health = await _health(house)
    assert health["bus_alive"]
    assert health["redis_alive"]
    assert health["database"]["migration"] == health["database"]["head"] != ""
    assert {w["name"] for w in health["workers"]} >= {"scheduler.orders", "scheduler.pulse"}


async def test_a_service_without_its_database_says_so_instead_of_failing(house: House) -> None:
    async with house.tools.database.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE outbox RENAME TO elsewhere")
    try:
        assert (await _health(house))["database"] is None
    finally:
        async with house.tools.database.engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO outbox")


async def test_a_dead_letter_shows_until_a_person_has_seen_to_it(house: House) -> None:
    async with house.tools.database.engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO dead_letters (consumer, event_id, type, envelope, error)"
            " VALUES ('scheduler.stops', gen_random_uuid(), 't', '{}', 'boom')"
        )
    assert (await _health(house))["database"]["dead_letters"] == 1
    assert sample("chusuan_dead_letters", service="scheduler") == 1


async def _health(house: House) -> Json:
    headers = house.headers(role=Role.service)
    answer = await house.http.get("/internal/health", headers=headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found
