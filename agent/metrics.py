"""What a host's agent counts. It dials out and listens on nothing, unless a setting names a port;
then on the loopback alone, for a collector on the host itself: containers have a network of their
own. What all hosts have, the scheduler shows from their reports."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

INSTANCES = Gauge("chusuan_agent_instances", "Instances this agent knows", ("node",))
REPORTS = Counter("chusuan_agent_reports", "Reports by outcome: sent, lost", ("node", "outcome"))
ORDERS = Counter("chusuan_agent_orders", "Whole orders taken", ("node",))
ACTIONS = Counter(
    "chusuan_agent_actions", "Steps taken for instances by outcome: done, failed",
    ("action", "outcome"),
)  # fmt: skip
ACTION_SECONDS = Histogram(
    "chusuan_agent_action_seconds",
    "Duration of a step, as Create, Start, AwaitReady",
    ("action",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
BUILDS = Counter("chusuan_agent_builds", "Images built by outcome: done, failed", ("outcome",))


@contextmanager
def counted(action: str) -> Iterator[None]:
    """One step of an instance."""
    began = time.perf_counter()
    try:
        yield
    except Exception:
        ACTIONS.labels(action, "failed").inc()
        raise
    ACTIONS.labels(action, "done").inc()
    ACTION_SECONDS.labels(action).observe(time.perf_counter() - began)
