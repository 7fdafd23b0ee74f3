"""How the bus looks inside RabbitMQ: one place for every name, key and queue argument.

An event goes to the exchange of its route with the key `<type>.<subject>`. Every publish is
mandatory, so what no queue takes comes back:

- An order or a report that comes back is undeliverable.
- A fact that comes back is undeliverable only if somebody is known to have asked for it. Each queue
  that keeps everything is also on record in the exchange `chusuan.known`, which leads to a queue
  that holds nothing; a key that `known` takes has lost its real queue or binding. A fact that
  `known` does not take is one that nobody asked for.

A lost binding beside a whole one for the same fact does not come back. Its consumer looks at its
queue and bindings every half minute, makes them again, and says so (`broker/standing.py`); what
passed meanwhile is missing there until it is told again (`shared/retelling.py`), which the inboxes
of the others absorb.

A queue's bindings outlive the version that asked for them, and copies of two versions share it: a
service that wants to hear more than before names a new queue.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from shared.bus.protocol import Keeping
from shared.bus.routes import Route, route_of
from shared.events.envelope import Envelope

VHOST = "chusuan"
KNOWN = "chusuan.known"
DEAD = "chusuan.dead"
EXCHANGES = (*(f"chusuan.{route}" for route in Route), KNOWN, DEAD)
REPORTS = f"chusuan.{Route.reports}"

# A handler that kills its process is given up after so many returns to the queue. Only returns
# count; a failing handler is tried again without one (shared/bus/broker/consumer.py).
DELIVERY_LIMIT = 20
STATE_TTL_MS = 60_000
MOST_STATES = 1000
LATELY_TTL_MS = 7 * 24 * 3600 * 1000
MOST_LATELY = 100_000
_LONGEST_KEY = 255

Arguments = dict[str, str | int]


def exchange_of(event_type: str) -> str:
    """Also of a pattern of event types."""
    return f"chusuan.{route_of(event_type)}"


def routing_key(event_type: str, subject: str) -> str:
    """The subject is one word of the key, whatever is in it."""
    word = quote(subject, safe="").replace(".", "%2E") or "%"
    if len(event_type) + 1 + len(word) > _LONGEST_KEY:
        word = sha256(word.encode()).hexdigest()
    return f"{event_type}.{word}"


def key_of(event: Envelope) -> str:
    return routing_key(event.type, event.subject)


def binding_keys(patterns: Sequence[str], subject: str | None) -> Iterator[tuple[str, str]]:
    """(exchange, key) for each pattern of event types."""
    for pattern in patterns:
        if subject is not None:
            yield exchange_of(pattern), routing_key(pattern, subject)
        elif pattern.endswith("#"):
            yield exchange_of(pattern), pattern
        else:
            yield exchange_of(pattern), f"{pattern}.*"


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    """What `queue.declare` is told, by us over AMQP or by whoever admits a node over HTTP."""

    name: str
    durable: bool
    arguments: Arguments


def dead_queue(queue: str) -> DeclaredQueue:
    return DeclaredQueue(f"{queue}.dead", True, {"x-queue-type": "quorum"})


def known_queue() -> DeclaredQueue:
    return DeclaredQueue(KNOWN, True, {"x-max-length": 0})


def declared(queue: str, keeping: Keeping) -> DeclaredQueue:
    if keeping is Keeping.everything:
        return DeclaredQueue(
            queue,
            True,
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": DEAD,
                "x-dead-letter-routing-key": queue,
                # At least once; the broker asks for this overflow with it.
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )
    if keeping is Keeping.lately:
        bounds: Arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": LATELY_TTL_MS,
            "x-max-length": MOST_LATELY,
            "x-overflow": "drop-head",
        }
        return DeclaredQueue(queue, True, bounds)
    limits: Arguments = {
        "x-message-ttl": STATE_TTL_MS,
        "x-max-length": MOST_STATES,
        "x-overflow": "drop-head",
    }
    return DeclaredQueue(queue, keeping is Keeping.states, limits)
