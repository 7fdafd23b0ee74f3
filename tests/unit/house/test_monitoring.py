"""Dashboards and alerts speak of metrics that the code really has, with labels that they have."""

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from deploy.monitoring.dashboards import DASHBOARDS, dashboard

MONITORING = Path(__file__).parents[3] / "deploy" / "monitoring"
OPERATE = MONITORING.parents[1] / "docs" / "operate.md"
ROOMS = (
    "agent.metrics", "gateway.metrics", "services.market.measuring", "services.market.verifying",
    "services.registry.measuring", "services.scheduler.measuring", "shared.metrics",
)  # fmt: skip
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
OF_PROMETHEUS = {"le", "job", "instance"}
SELECTOR = re.compile(r"\b(chusuan_[a-z_]+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def known() -> dict[str, set[str]]:
    """Sample name → its labels."""
    for room in ROOMS:
        importlib.import_module(room)
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._names_to_collectors.values()):
        labels = set(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            for suffix in SUFFIXES.get(family.type, ("",)):
                found[f"{family.name}{suffix}"] = labels
    return found


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for path in sorted((MONITORING / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_is_one_that_the_code_has(where: str, expression: str) -> None:
    metrics = known()
    named = SELECTOR.findall(expression)
    if where == "ChusuanPartDown":
        return
    assert named
    labels: set[str] = set()
    for metric, selector in named:
        assert metric in metrics, (where, metric)
        labels |= metrics[metric]
        matched = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))
        assert matched <= metrics[metric], (where, metric, matched)
    grouped = {word.strip() for group in GROUPING.findall(expression) for word in group.split(",")}
    assert grouped <= labels | OF_PROMETHEUS, where


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_the_guide_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert f"**{rule['alert']}**" in OPERATE.read_text()


def test_the_guide_speaks_of_no_alert_that_is_not_there() -> None:
    told = set(re.findall(r"\*\*(Chusuan[A-Za-z]+)\*\*", OPERATE.read_text()))
    assert told == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_dashboards_that_lie_there_are_those_of_the_tables(name: str) -> None:
    assert (MONITORING / "grafana" / f"{name}.json").read_text() == dashboard(name)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's prometheus is not installed")
def test_prometheus_itself_takes_rules_and_example() -> None:
    for words in (["rules", "alerts.yml"], ["config", "prometheus.yml"]):
        checked = subprocess.run(
            ["promtool", "check", *words], check=False, cwd=MONITORING, capture_output=True,
            text=True,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's prometheus is not installed")
def test_prometheus_itself_takes_every_query_of_the_dashboards(tmp_path: Path) -> None:
    queries = [expression for where, expression in expressions() if ".json" in where]
    recorded = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    document = {"groups": [{"name": "dashboards", "rules": recorded}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document))
    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(tmp_path / "rules.yml")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
