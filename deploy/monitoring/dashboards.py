"""Writes the Grafana dashboards beside it from the tables below, when it is run.

A dashboard is a list of panels; a panel a title, what its numbers are, and its queries with legend.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "grafana"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDE, HIGH, A_ROW = 8, 8, 3

# title, unit, ((query, legend), …)
Panel = tuple[str, str, tuple[tuple[str, str], ...]]

OVERVIEW: list[Panel] = [
    (
        "Requests a second, by part",
        "reqps",
        (("sum by (service) (rate(chusuan_http_requests_total[5m]))", "{{service}}"),),
    ),
    (
        "Share answered 5xx",
        "percentunit",
        (
            (
                'sum by (service) (rate(chusuan_http_requests_total{status="5xx"}[5m]))'
                " / sum by (service) (rate(chusuan_http_requests_total[5m]))",
                "{{service}}",
            ),
        ),
    ),
    (
        "Latency at the gateway, p50 and p99",
        "s",
        (
            (
                'histogram_quantile(0.5, sum by (le) (rate(chusuan_http_request_seconds_bucket{service="gateway"}[5m])))',
                "p50",
            ),
            (
                'histogram_quantile(0.99, sum by (le) (rate(chusuan_http_request_seconds_bucket{service="gateway"}[5m])))',
                "p99",
            ),
        ),
    ),
    (
        "Instances",
        "short",
        (('max by (state) (chusuan_scheduler_instances{state!="released"})', "{{state}}"),),
    ),
    ("GPUs", "short", (("max by (kind) (chusuan_scheduler_gpus)", "{{kind}}"),)),
    ("Hosts", "short", (("max by (state) (chusuan_scheduler_nodes)", "{{state}}"),)),
    (
        "Bus and Redis alive",
        "short",
        (
            ("min by (service) (chusuan_bus_alive)", "bus, {{service}}"),
            ("min by (service) (chusuan_redis_alive)", "Redis, {{service}}"),
        ),
    ),
    ("Dead letters", "short", (("max by (service) (chusuan_dead_letters)", "{{service}}"),)),
    ("Faults in the ledger", "short", (("max(chusuan_market_ledger_faults)", "faults"),)),
]
SERVICES: list[Panel] = [
    (
        "Slowest routes, p95",
        "s",
        (
            (
                "topk(10, histogram_quantile(0.95, sum by (le, service, route)"
                " (rate(chusuan_http_request_seconds_bucket[5m]))))",
                "{{service}} {{route}}",
            ),
        ),
    ),
    (
        "Requests under way",
        "short",
        (("sum by (service) (chusuan_http_requests_in_flight)", "{{service}}"),),
    ),
    (
        "Answers by class",
        "reqps",
        (("sum by (status) (rate(chusuan_http_requests_total[5m]))", "{{status}}"),),
    ),
    (
        "Services as the gateway sees them, p95 to the answer's head",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, upstream)"
                " (rate(chusuan_gateway_upstream_seconds_bucket[5m])))",
                "{{upstream}}",
            ),
        ),
    ),
    (
        "Requests that no service took",
        "reqps",
        (("sum by (upstream) (rate(chusuan_gateway_upstream_away_total[5m]))", "{{upstream}}"),),
    ),
    (
        "Refused for their number; WebSockets open",
        "short",
        (
            ("sum(rate(chusuan_gateway_rate_limited_total[5m]))", "refused a second"),
            ("sum(chusuan_websockets_open)", "WebSockets"),
        ),
    ),
    (
        "Database connections",
        "short",
        (("sum by (service, kind) (chusuan_database_connections)", "{{service}} {{kind}}"),),
    ),
    (
        "Workers: since the last good pass",
        "s",
        (("time() - max by (worker) (chusuan_worker_last_done_timestamp_seconds)", "{{worker}}"),),
    ),
    (
        "Workers: failed passes; p95 of a pass",
        "short",
        (
            (
                'sum by (worker) (increase(chusuan_worker_runs_total{outcome="failed"}[1h])) > 0',
                "failed, {{worker}}",
            ),
            (
                "histogram_quantile(0.95, sum by (le, worker)"
                " (rate(chusuan_worker_pass_seconds_bucket[15m])))",
                "p95 s, {{worker}}",
            ),
        ),
    ),
]
EVENTS: list[Panel] = [
    (
        "Events not yet told",
        "short",
        (("max by (service) (chusuan_outbox_waiting)", "{{service}}"),),
    ),
    (
        "Age of the oldest",
        "s",
        (("max by (service) (chusuan_outbox_oldest_seconds)", "{{service}}"),),
    ),
    (
        "Told a second; refused by the bus",
        "short",
        (
            ("sum by (service) (rate(chusuan_outbox_published_total[5m]))", "told, {{service}}"),
            (
                "sum by (service) (rate(chusuan_outbox_publish_failures_total[5m]))",
                "refused, {{service}}",
            ),
        ),
    ),
    (
        "Handled a second",
        "short",
        (
            (
                'sum by (consumer) (rate(chusuan_inbox_events_total{outcome="handled"}[5m]))',
                "{{consumer}}",
            ),
        ),
    ),
    (
        "Failed tries and parked",
        "short",
        (
            (
                'sum by (consumer, outcome) (increase(chusuan_inbox_events_total{outcome!="handled"}[1h])) > 0',
                "{{consumer}} {{outcome}}",
            ),
        ),
    ),
    (
        "Handling, p95",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, consumer)"
                " (rate(chusuan_inbox_event_seconds_bucket[5m])))",
                "{{consumer}}",
            ),
        ),
    ),
    ("Dead letters", "short", (("max by (service) (chusuan_dead_letters)", "{{service}}"),)),
    (
        "At the bus, by kind",
        "short",
        (("sum by (way, type) (rate(chusuan_bus_events_total[5m]))", "{{way}} {{type}}"),),
    ),
    ("Bus alive", "short", (("min by (service) (chusuan_bus_alive)", "{{service}}"),)),
]
HOSTS: list[Panel] = [
    ("Hosts by state", "short", (("max by (state) (chusuan_scheduler_nodes)", "{{state}}"),)),
    (
        "Since a host's last report",
        "s",
        (("min by (node) (chusuan_scheduler_node_heard_seconds)", "{{node}}"),),
    ),
    ("GPUs", "short", (("max by (kind) (chusuan_scheduler_gpus)", "{{kind}}"),)),
    (
        "GPUs in use",
        "percentunit",
        (
            (
                'max(chusuan_scheduler_gpus{kind="promised"}) / max(chusuan_scheduler_gpus{kind="total"})',
                "promised",
            ),
        ),
    ),
    (
        "Waiting in queues",
        "short",
        (('max(chusuan_scheduler_instances{state="queued"})', "queued"),),
    ),
    (
        "Longest in a passing state",
        "s",
        (("max by (state) (chusuan_scheduler_oldest_seconds)", "{{state}}"),),
    ),
    (
        "Free disk",
        "percentunit",
        (
            (
                'min by (node) (chusuan_scheduler_node_disk_bytes{kind="free"})'
                ' / min by (node) (chusuan_scheduler_node_disk_bytes{kind="total"})',
                "{{node}}",
            ),
        ),
    ),
    (
        "Images",
        "short",
        (("max by (kind, status) (chusuan_registry_images)", "{{kind}} {{status}}"),),
    ),
    (
        "On the host: steps, p95, and reports lost (agents that a collector reads)",
        "s",
        (
            (
                "histogram_quantile(0.95, sum by (le, action)"
                " (rate(chusuan_agent_action_seconds_bucket[15m])))",
                "{{action}}",
            ),
            (
                'sum by (node) (rate(chusuan_agent_reports_total{outcome="lost"}[5m]))',
                "lost, {{node}}",
            ),
        ),
    ),
]
MONEY: list[Panel] = [
    ("Faults in the ledger", "short", (("max(chusuan_market_ledger_faults)", "faults"),)),
    (
        "All balances, all holds (元)",
        "short",
        (
            ("max(chusuan_market_balance_yuan)", "balances"),
            ("max(chusuan_market_held_yuan)", "holds"),
        ),
    ),
    (
        "Authorisations",
        "short",
        (('max by (state) (chusuan_market_authorisations{state=~"open|active"})', "{{state}}"),),
    ),
    (
        "Wallets; empty while something runs",
        "short",
        (
            ("max(chusuan_market_wallets)", "wallets"),
            ("max(chusuan_market_exhausted_wallets)", "empty"),
        ),
    ),
    (
        "Running, longest without proof",
        "s",
        (("max(chusuan_market_unproven_seconds)", "unproven"),),
    ),
    (
        "Money's workers: since the last good pass",
        "s",
        (
            (
                'time() - max by (worker) (chusuan_worker_last_done_timestamp_seconds{worker=~"market.*"})',
                "{{worker}}",
            ),
        ),
    ),
]

DASHBOARDS = {
    "overview": ("Chusuan: overview", OVERVIEW),
    "services": ("Chusuan: services", SERVICES),
    "events": ("Chusuan: events", EVENTS),
    "hosts": ("Chusuan: hosts and GPUs", HOSTS),
    "money": ("Chusuan: money", MONEY),
}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    title, unit, queries = panel
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {
            "x": number % A_ROW * WIDE, "y": number // A_ROW * HIGH, "w": WIDE, "h": HIGH,
        },
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for i, (query, legend) in enumerate(queries)
        ],
    }  # fmt: skip


def dashboard(name: str) -> str:
    title, panels = DASHBOARDS[name]
    document = {
        "uid": f"chusuan-{name}",
        "title": title,
        "tags": ["chusuan"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(dashboard(name))
