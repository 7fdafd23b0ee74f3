"""What the gateway alone counts, and its few route names.

Its metrics are served on a listener of their own: what the door serves, the world reads.
"""

import time
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.types import Message, Scope, Send

from gateway.routes import API, APPS, SERVICE_OF
from shared.metrics import FAST_S
from shared.telemetry_http import UNKNOWN_ROUTE, route_template

UPSTREAM_SECONDS = Histogram(
    "chusuan_gateway_upstream_seconds",
    "From passing a request on to the head of the service's answer",
    ("upstream",),
    buckets=FAST_S,
)
UPSTREAM_AWAY = Counter(
    "chusuan_gateway_upstream_away", "Requests that a service did not take", ("upstream",)
)
RATE_LIMITED = Counter("chusuan_gateway_rate_limited", "Requests refused for their number")


@cache
def _upstream(service: str) -> Histogram:
    return UPSTREAM_SECONDS.labels(service)


def timing_head(service: str, send: Send) -> Send:
    """`send`, which notes when the answer's head comes by."""
    began = time.perf_counter()
    seconds = _upstream(service)

    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            seconds.observe(time.perf_counter() - began)
        await send(message)

    return noting


def route_of(scope: Scope) -> str:
    """Of calls that are passed on only the first word: their template is the service's own."""
    path: str = scope["path"]
    if path.startswith(APPS):
        return f"{APPS}{{instance_id}}/…"
    if path.startswith(API):
        word = path[len(API) :].partition("/")[0]
        return f"{API}{word}/…" if word in SERVICE_OF else UNKNOWN_ROUTE
    return route_template(scope)
