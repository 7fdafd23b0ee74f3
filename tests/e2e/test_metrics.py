"""What a running platform shows of itself, to Prometheus alone."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.people import Person
from tests.e2e.platform import EmbeddedPlatform, RunningPlatform
from tests.unit.house.test_monitoring import SELECTOR, expressions

PARTS = {"auth", "storage", "registry", "market", "scheduler"}


async def test_all_that_dashboards_and_alerts_ask_for_is_there(
    platform: RunningPlatform, operator: Person
) -> None:
    if not isinstance(platform, EmbeddedPlatform):
        pytest.skip("one process shows all metrics at once; split is scraped part by part")
    await operator.get("/nodes")
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://127.0.0.1:{platform.metrics_port}/metrics")).text
        outside = await http.get(f"{platform.url}/metrics")
    assert (outside.status_code, "chusuan_" in outside.text) == (404, False)
    families = list(text_string_to_metric_families(text))
    named = {family.name for family in families}
    for where, expression in expressions():
        for metric, _ in SELECTOR.findall(expression):
            if where == "ChusuanPartDown":
                continue
            base = metric.removesuffix("_bucket").removesuffix("_total")
            assert base in named, (where, metric)
    samples = {s.name: s for f in families for s in f.samples}
    alive = {
        s.labels["service"] for f in families for s in f.samples
        if s.name == "chusuan_bus_alive" and s.value == 1
    }  # fmt: skip
    assert alive == PARTS
    assert "chusuan_scheduler_gpus" in samples


async def test_a_platform_that_is_well_says_so_of_every_part(operator: Person) -> None:
    health = await operator.get("/health")
    assert {part["service"] for part in health["services"]} == PARTS
    for part in health["services"]:
        found = part["health"]
        assert found is not None, part
        assert found["database"]["migration"] == found["database"]["head"]
        assert (found["bus_alive"], found["redis_alive"]) == (True, True)
        assert found["database"]["dead_letters"] == 0
