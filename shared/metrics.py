"""What every part counts about itself, for Prometheus.

Defined once here, with the part as a label, since all parts may share one process and one
registry. Labels hold names that we gave (route templates, consumers, workers), never what a caller
sends, so that the number of series is bounded.
"""

import functools
import ipaddress
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram, start_http_server

FAST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

HTTP_REQUESTS = Counter(
    "chusuan_http_requests",
    "Requests answered; status is a class, as 2xx; aborted: the client left, or we broke off",
    ("service", "method", "route", "status"),
)
HTTP_SECONDS = Histogram(
    "chusuan_http_request_seconds",
    "From a request's head to the end of its answer",
    ("service", "route"),
    buckets=FAST_S,
)
HTTP_IN_FLIGHT = Gauge("chusuan_http_requests_in_flight", "Requests under way", ("service",))
WEBSOCKETS_OPEN = Gauge("chusuan_websockets_open", "WebSockets open", ("service",))

OUTBOX_WAITING = Gauge("chusuan_outbox_waiting", "Events true but not yet told", ("service",))
OUTBOX_OLDEST = Gauge(
    "chusuan_outbox_oldest_seconds", "Age of the oldest event not yet told; 0: none", ("service",)
)
OUTBOX_PUBLISHED = Counter("chusuan_outbox_published", "Events told", ("service",))
OUTBOX_FAILURES = Counter(
    "chusuan_outbox_publish_failures", "Tries at telling that the bus refused", ("service",)
)
INBOX_EVENTS = Counter(
    "chusuan_inbox_events",
    "Events by what became of them: handled (repeated ones too), failed tries, parked",
    ("consumer", "outcome"),
)
INBOX_SECONDS = Histogram(
    "chusuan_inbox_event_seconds",
    "An event's handling, tries and waits together",
    ("consumer",),
    buckets=FAST_S,
)
DEAD_LETTERS = Gauge("chusuan_dead_letters", "Parked events that wait for a person", ("service",))

WORKER_RUNS = Counter(
    "chusuan_worker_runs", "Passes by outcome: done, failed", ("worker", "outcome")
)
WORKER_SECONDS = Histogram(
    "chusuan_worker_pass_seconds", "Duration of a pass", ("worker",), buckets=(*FAST_S, 60.0)
)
WORKER_LAST_DONE = Gauge(
    "chusuan_worker_last_done_timestamp_seconds",
    "When its last pass ended well; before the first, when it began to run",
    ("worker",),
)
WORKER_INTERVAL = Gauge("chusuan_worker_interval_seconds", "Pause between passes", ("worker",))

POOL_CONNECTIONS = Gauge(
    "chusuan_database_connections",
    "Connections to the database: open, in_use, most (what the pool may open)",
    ("service", "kind"),
)
BUS_ALIVE = Gauge("chusuan_bus_alive", "1: a message to ourselves came back", ("service",))
REDIS_ALIVE = Gauge("chusuan_redis_alive", "1: Redis answers", ("service",))
BUS_EVENTS = Counter(
    "chusuan_bus_events", "Events at the bus by way: published, consumed", ("way", "type")
)
BUS_REPAIRS = Counter(
    "chusuan_bus_repairs",
    "Times that a consumer's queue, or a binding of it, was gone from the broker and made again",
    ("queue", "what"),
)
BUS_REPAIRED_AT = Gauge(
    "chusuan_bus_repaired_timestamp_seconds",
    "When that was found last: what passed meanwhile must be told again",
    ("queue",),
)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@functools.lru_cache(maxsize=4096)
def _requests(service: str, method: str, route: str, status: str) -> Counter:
    return HTTP_REQUESTS.labels(service, method, route, status)


@functools.lru_cache(maxsize=1024)
def _seconds(service: str, route: str) -> Histogram:
    return HTTP_SECONDS.labels(service, route)


def count_request(service: str, method: str, route: str, status: int, seconds: float) -> None:
    """route: a template. status: 0 when none was sent."""
    shown = f"{status // 100}xx" if status else "aborted"
    _requests(service, method if method in METHODS else "other", route, shown).inc()
    _seconds(service, route).observe(seconds)


def serve_metrics(address: str) -> Callable[[], None]:
    """A listener of its own, in a thread, that serves nothing but `/metrics`; what ends it.

    address: `HOST:PORT`. Raises ValueError for another form, OSError where it cannot listen."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        raise ValueError(f"metrics address {address!r}: HOST:PORT is wanted")
    if host != "localhost":
        ipaddress.ip_address(host)
    server, thread = start_http_server(int(port), addr=host)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
