"""The AsyncAPI 3.0 document: every event, who tells it, who hears it, and how it travels.

Made from the payload classes and from the subscriptions that the running services name, so that
it cannot say what is not so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.bus.protocol import Keeping, Subscription, matches
from shared.bus.routes import Route
from shared.events.catalogue import Kind, kinds
from shared.events.envelope import Envelope

Document = dict[str, Any]

CONTENT_TYPE = "application/cloudevents+json"
VHOST = "chusuan"
# Agents have no address to ask; an order is for them and for nobody else.
AGENTS = "agent"

_ROUTES = {
    Route.facts: "Facts: what is true, for every service and for outside programs.",
    Route.orders: "Orders of services to agents. They hold secrets: not for outside programs.",
    Route.reports: "Reports of agents to services: not for outside programs.",
}
_DESCRIPTION = """\
What the rooms of the platform tell one another, in CloudEvents 1.0 envelopes (structured mode).

An outside program may hear facts: an operator gives it a login and a queue of its own
(`POST /api/v1/events/subscribers`, `chusuan events subscribers add`). Events of one subject arrive
in order; each may arrive more than once, under the same `id`. Readers ignore fields they do not
know. A change that would break a reader is a new `dataversion` beside the old.
"""


class Heard(BaseModel):
    """A consumer: the queue it reads and the patterns of types it asks for."""

    queue: str
    patterns: list[str]

    @classmethod
    def of(cls, subscription: Subscription) -> Self:
        """A queue of one copy alone goes by the name that all copies' queues begin with."""
        queue = subscription.queue
        if subscription.keeping is Keeping.nothing:
            queue = queue.rpartition(".")[0]
        return cls(queue=queue, patterns=list(subscription.patterns))


def document(heard: Mapping[str, Sequence[Heard]], version: str) -> Document:
    """heard: by service, what each listens to."""
    told = kinds()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Chusuan 楚算: events",
            "version": version,
            "description": _DESCRIPTION,
            "tags": [{"name": route.value, "description": _ROUTES[route]} for route in Route],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(),
        "channels": {kind.type: _channel(kind, told) for kind in told} | _outside(told),
        "operations": _operations(told, heard),
        "components": {
            "schemas": _schemas(told),
            "messages": {kind.name: _message(kind, heard) for kind in told},
            "securitySchemes": {
                "login": {"type": "userPassword", "description": "The broker's own logins."}
            },
        },
    }


def _servers() -> Document:
    security = {"security": [_reference("securitySchemes", "login")]}
    port = {"default": "5672", "description": "As the platform's operator has opened it."}
    common = {"pathname": f"/{VHOST}", "protocolVersion": "0.9.1", **security}
    return {
        "broker": {
            "host": "{host}:{port}",
            "protocol": "amqp",
            "description": "RabbitMQ of the split shape, inside the platform's own network.",
            "variables": {"host": {"default": "rabbitmq"}, "port": port},
            **common,
        },
        "edge": {
            "host": "{host}:{port}",
            "protocol": "amqps",
            "description": "The same broker with TLS, for agents and outside programs.",
            "variables": {"host": {"default": "localhost"}, "port": {**port, "default": "5671"}},
            **common,
        },
    }


def _channel(kind: Kind, told: Sequence[Kind]) -> Document:
    versions = [other for other in told if other.type == kind.type]
    exchange = {
        "name": f"chusuan.{kind.route.value}",
        "type": "topic",
        "durable": True,
        "autoDelete": False,
        "vhost": VHOST,
    }
    return {
        "address": f"{kind.type}.{{subject}}",
        "title": kind.type,
        "description": _ROUTES[kind.route],
        "messages": {version.name: _reference("messages", version.name) for version in versions},
        "parameters": {"subject": {"description": "Id of what the event is about."}},
        "tags": [{"name": kind.route.value}],
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
        "x-for-outside-programs": kind.route is Route.facts,
    }


def _outside(told: Sequence[Kind]) -> Document:
    queue = {
        "name": "outside.{name}",
        "durable": True,
        "exclusive": False,
        "autoDelete": False,
        "vhost": VHOST,
    }
    facts = [kind.name for kind in told if kind.route is Route.facts]
    return {
        "outside": {
            "address": "outside.{name}",
            "title": "The queue of an outside program",
            "description": "Bound to the facts that its operator chose; it may read it and no "
            "more. Keeps 7 days, and at most a bounded number, of what it has not taken; then "
            "the oldest go.",
            "messages": {name: _reference("messages", name) for name in facts},
            "parameters": {"name": {"description": "What the operator called the program."}},
            "bindings": {"amqp": {"is": "queue", "queue": queue, "bindingVersion": "0.3.0"}},
            "x-for-outside-programs": True,
        }
    }


def _operations(told: Sequence[Kind], heard: Mapping[str, Sequence[Heard]]) -> Document:
    found: Document = {}
    for kind in told:
        channel = {"$ref": f"#/channels/{kind.type}"}
        found[f"{kind.sender}.tells.{kind.type}"] = {
            "action": "send",
            "channel": channel,
            "tags": [{"name": kind.sender}],
            "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": "0.3.0"}},
        }
        for service, queue in _receivers(kind, heard):
            found[f"{queue}.hears.{kind.type}"] = {
                "action": "receive",
                "channel": channel,
                "tags": [{"name": service}],
                "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
            }
    found["outside.hears.facts"] = {
        "action": "receive",
        "channel": {"$ref": "#/channels/outside"},
        "tags": [{"name": "outside"}],
        "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
    }
    return found


def _receivers(kind: Kind, heard: Mapping[str, Sequence[Heard]]) -> list[tuple[str, str]]:
    """(service, queue) of each."""
    if kind.route is Route.orders:
        return [(AGENTS, AGENTS)]
    return [
        (service, consumer.queue)
        for service, consumers in sorted(heard.items())
        for consumer in consumers
        if any(matches(pattern, kind.type) for pattern in consumer.patterns)
    ]


def _message(kind: Kind, heard: Mapping[str, Sequence[Heard]]) -> Document:
    data = _reference("schemas", kind.name)
    fixed = {"type": {"const": kind.type}, "dataversion": {"const": kind.version}, "data": data}
    summary = kind.meaning.partition("\n\n")[0].replace("\n", " ")
    return {
        "name": kind.name,
        "title": kind.payload.__name__,
        **({"summary": summary, "description": kind.meaning} if summary else {}),
        "contentType": CONTENT_TYPE,
        "payload": {"allOf": [_reference("schemas", "Envelope"), {"properties": fixed}]},
        "tags": [{"name": kind.route.value}],
        "x-sender": kind.sender,
        "x-receivers": sorted({service for service, _ in _receivers(kind, heard)}),
    }


def _schemas(told: Sequence[Kind]) -> Document:
    """As they travel: whatever has a default is always there."""
    models = [(model, "serialization") for model in (Envelope, *(kind.payload for kind in told))]
    names, definitions = models_json_schema(
        models,  # type: ignore[arg-type]  # a list of pairs is not a list of its own kind
        ref_template="#/components/schemas/{model}",
    )
    schemas: Document = dict(definitions.get("$defs", {}))
    by_kind = {kind.payload: kind.name for kind in told}
    for (model, _), reference in names.items():
        own = reference["$ref"].rpartition("/")[2]
        if model in by_kind:
            # By the event's name, as everything else here; nobody refers to a payload by class.
            schemas[by_kind[model]] = schemas.pop(own)
    return schemas


def _reference(section: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{section}/{name}"}
