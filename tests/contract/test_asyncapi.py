"""The AsyncAPI document is valid, complete, and says what the rooms really listen to."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft7Validator

from cli.up import wiring
from cli.up.home import SERVICES, Home
from cli.up.postgres import Postgres
from cli.up.wiring import PlatformOptions, Wiring
from shared.app import Runtime
from shared.bus import Keeping, Subscription
from shared.bus.protocol import matches
from shared.bus.routes import Route, route_of
from shared.events.asyncapi import Heard, document
from shared.events.catalogue import facts, kinds
from shared.ids import new_id
from tests.service.gateway.serving import free_port

SCHEMA = Path(__file__).parent / "asyncapi" / "3.0.0.schema.json.gz"
Rooms = dict[str, list[Subscription]]


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))


@pytest.fixture(scope="module")
async def rooms(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Rooms, dict[str, list[Heard]]]]:
    """Every service as the platform composes it: what it subscribed to, and what it says so."""
    folder = tmp_path_factory.mktemp("rooms")
    home = Home(folder / "home")
    home.prepare()
    unique = new_id().hex
    options = PlatformOptions(home=home, sftp_port=free_port(), recipes=folder)
    subscriptions: Rooms = {}
    said: dict[str, list[Heard]] = {}
    for service in SERVICES:
        await postgres.create_database(f"{service}_{unique}")
    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            wiring, "BUS", f"memory://{unique}"
        )
        rooms = Wiring(options, lambda service: postgres.url(f"{service}_{unique}")).services()
        for service, app in rooms.items():
            await stack.enter_async_context(app.router.lifespan_context(app))
            runtime: Runtime = app.state.runtime
            subscriptions[service] = runtime.subscriptions
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
                listed = (await http.get("/subscriptions.json")).json()
            said[service] = [Heard.model_validate(each) for each in listed]
        yield subscriptions, said


def errors(validator: Draft7Validator, found: dict[str, Any]) -> list[str]:
    # Through JSON, as it leaves.
    written = json.loads(json.dumps(found))
    return [f"{list(e.absolute_path)}: {e.message[:200]}" for e in validator.iter_errors(written)]


async def test_every_pattern_of_every_room_asks_for_an_event_that_there_is(
    rooms: tuple[Rooms, Any], validator: Draft7Validator
) -> None:
    subscriptions, said = rooms
    assert {each.queue for room in said.values() for each in room} >= {
        "auth.audit", "market.runs", "registry.saves", "scheduler.reports", "storage.sftp",
    }  # fmt: skip
    idle = [
        (subscription.queue, pattern)
        for room in subscriptions.values()
        for subscription in room
        for pattern in subscription.patterns
        if not any(matches(pattern, kind.type) for kind in kinds())
    ]
    assert idle == []
    # And the document that is made of it names them all.
    found = document(said, "1")
    assert errors(validator, found) == []
    receivers = {
        name: message["x-receivers"] for name, message in found["components"]["messages"].items()
    }
    assert receivers["scheduler.instance.started.v1"] == ["auth", "market"]
    assert receivers["scheduler.node.desired.v1"] == ["agent"]
    assert receivers["agent.node.reported.v1"] == ["scheduler"]
    assert "market.runs.hears.scheduler.instance.started" in found["operations"]


async def test_every_fact_that_concerns_people_or_money_is_heard_by_the_audit_trail_once(
    rooms: tuple[Rooms, Any],
) -> None:
    (audit,) = (s for s in rooms[0]["auth"] if s.queue == "auth.audit")
    for kind in kinds():
        asked = [pattern for pattern in audit.patterns if matches(pattern, kind.type)]
        assert len(asked) <= 1, (kind.type, asked)
        if ".dead_letter." in kind.type or kind.sender in ("auth", "market"):
            assert asked, kind.type


async def test_no_subscription_mixes_facts_with_reports(rooms: tuple[Rooms, Any]) -> None:
    for room in rooms[0].values():
        for subscription in room:
            routes = {route_of(pattern) for pattern in subscription.patterns}
            assert len(routes) == 1
            assert (routes == {Route.facts}) == (subscription.keeping is not Keeping.states)


def test_every_event_is_in_it_with_sender_version_and_shape(validator: Draft7Validator) -> None:
    found = document({}, "1")
    assert errors(validator, found) == []
    messages, schemas = found["components"]["messages"], found["components"]["schemas"]
    for kind in kinds():
        message = messages[kind.name]
        assert message["x-sender"] == kind.sender
        payload = message["payload"]["allOf"][1]["properties"]
        assert payload["type"] == {"const": kind.type}
        assert payload["dataversion"] == {"const": kind.version}
        assert set(schemas[kind.name]["properties"]) == set(kind.payload.model_fields)
        assert f"{kind.sender}.tells.{kind.type}" in found["operations"]
    assert len(messages) == len(kinds())


def test_orders_and_reports_are_marked_as_not_for_outside_programs() -> None:
    channels = document({}, "1")["channels"]
    inside = {name for name, each in channels.items() if not each["x-for-outside-programs"]}
    assert inside == {
        "scheduler.node.desired", "registry.images.wanted",
        "agent.node.reported", "agent.image.reported",
    }  # fmt: skip
    assert set(channels["outside"]["messages"]) == {
        kind.name for kind in kinds() if kind.route is Route.facts
    }
    exchange = channels["scheduler.node.desired"]["bindings"]["amqp"]["exchange"]
    assert exchange["name"] == "chusuan.orders"
    assert facts(["#"]).isdisjoint(inside)


def test_every_reference_leads_somewhere() -> None:
    found = document({}, "1")

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                place: Any = found
                for word in reference.removeprefix("#/").split("/"):
                    place = place[word]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(found)


def test_the_validator_refuses_what_is_wrong(validator: Draft7Validator) -> None:
    found = document({}, "1")
    found["operations"]["auth.tells.auth.account.enabled"]["action"] = "shout"
    assert errors(validator, found) != []
