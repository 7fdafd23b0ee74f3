"""A host joins by invitation; what is lost on the way, and who is kept out."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from services.scheduler.clients.admission import FakeAdmission
from services.scheduler.dismissing import HALF_JOINED_S, drive_joining
from shared.bus import Keeping
from shared.clock import utc_now
from shared.events import Envelope
from shared.events.agent import ImagesWanted, NodeDesired, NodeReported
from shared.ids import new_id
from shared.tokens import Role
from tests.service.scheduler.conftest import Agent, House, Json, Opener


class Door:
    """The house with a broker behind it, as operator and host see it."""

    def __init__(self, house: House, broker: FakeAdmission) -> None:
        self.house, self.broker = house, broker

    async def operator(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        headers = self.house.headers(role=Role.operator)
        return await self.house.http.request(
            method, f"/api/v1/nodes{path}", json=body, headers=headers
        )

    async def invited(self, **wish: Any) -> str:
        """The secret inside the token."""
        answer = await self.operator("POST", "/invitations", wish)
        assert answer.status_code == 201, answer.text
        return str(opened(answer.json()["token"])["s"])

    async def join(self, secret: str, agent_id: UUID | None = None) -> httpx.Response:
        body = {
            "secret": secret, "agent_id": str(agent_id or new_id()), "name": "gpu-7",
            "region": "wuhan-1",
        }  # fmt: skip
        return await self.house.http.post("/api/v1/nodes/join", json=body)

    async def joined(self, secret: str, agent_id: UUID | None = None) -> Json:
        answer = await self.join(secret, agent_id)
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told

    async def verify(self, login: str, password: str) -> int:
        answer = await self.house.http.post(
            "/internal/nodes/verify",
            json={"login": login, "password": password},
            headers=self.house.headers(role=Role.service),
        )
        return answer.status_code

    async def node(self, node_id: str) -> Json:
        shown: Json = (await self.operator("GET", f"/{node_id}")).json()
        return shown

    async def dismissed(self, node_id: str) -> None:
        """By passes of the worker; one may be under way already."""
        async with asyncio.timeout(10):
            while (await self.node(node_id))["credential"] != "dismissed":
                await drive_joining(self.house.tools)
                await asyncio.sleep(0.01)
        assert f"node.{node_id}" not in self.broker.passwords

    async def only_node(self) -> str:
        return str((await self.house.rows("SELECT id FROM nodes"))[0][0])

    async def report(self, node_id: str, source: str, **changes: Any) -> None:
        """What the node says, as the broker vouches for who says it."""
        agent = Agent(self.house.bus, node_id=UUID(node_id))
        values = {
            "node_id": agent.node_id, "name": "as-it-says", "region": "there", "simulated": False,
            "boot_id": "b", "sequence": 1, "reported_at": utc_now(),
            "inventory": agent.inventory(), "instances": [], **changes,
        }  # fmt: skip
        envelope = Envelope.wrap(NodeReported(**values), subject=node_id)
        await self.house.bus.publish(envelope.model_copy(update={"source": source}))


def opened(token: str) -> Json:
    mark, _, rest = token.partition(".")
    assert mark == "csj1"
    content: Json = json.loads(base64.urlsafe_b64decode(rest))
    return content


@pytest.fixture
async def door(open_house: Opener, tmp_path: Path) -> AsyncIterator[Door]:
    broker = FakeAdmission()
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    async with open_house(
        admission=broker, public_url="https://chusuan.example", ca_file=ca,
        broker_public_url="amqps://mq.example:5671/chusuan",
        registry_public_address="images.example:443",
    ) as house:  # fmt: skip
        yield Door(house, broker)


async def test_an_invited_host_gets_a_login_for_its_own_queues_and_nothing_else(door: Door) -> None:
    answer = await door.operator("POST", "/invitations", {"name": "rack-3"})
    token = opened(answer.json()["token"])
    pem = "-----BEGIN CERTIFICATE-----\n"
    assert token["u"] == "https://chusuan.example"
    assert token["c"] == hashlib.sha256(pem.encode()).hexdigest()
    assert answer.json()["token"] in answer.json()["command"]
    told = await door.joined(token["s"])
    node_id, login = told["node_id"], f"node.{told['node_id']}"
    password = told["registry_password"]
    assert urlsplit(told["bus_url"]).hostname == "mq.example"
    assert (urlsplit(told["bus_url"]).username, urlsplit(told["bus_url"]).password) == (
        login, password,
    )  # fmt: skip
    assert urlsplit(told["bus_url"]).path == "/chusuan"
    assert (told["registry_address"], told["registry_username"]) == ("images.example:443", login)
    assert told["ca_pem"] == pem
    assert door.broker.passwords == {login: password}
    desired, images = door.broker.queues[login]
    assert (desired.queue, desired.patterns, desired.subject, desired.keeping) == (
        f"agent.{node_id}.desired", (NodeDesired.type,), node_id, Keeping.states,
    )  # fmt: skip
    assert (images.queue, images.patterns, images.subject) == (
        f"agent.{node_id}.images", (ImagesWanted.type,), None,
    )  # fmt: skip
    assert await door.verify(login, password) == 204
    assert await door.verify(login, password + "x") == 401
    assert await door.verify("node.nobody", password) == 401
    kept = str(await door.house.rows("SELECT * FROM invitations, node_credentials, nodes"))
    assert password not in kept
    assert token["s"] not in kept


async def test_a_joined_host_is_shown_silent_until_it_reports_and_is_called_as_invited(
    door: Door,
) -> None:
    told = await door.joined(await door.invited(name="rack-3"))
    shown = await door.node(told["node_id"])
    assert (shown["name"], shown["state"], shown["gpus"]) == ("rack-3", "silent", [])
    assert shown["credential"] == "admitted"
    await door.report(told["node_id"], f"node.{told['node_id']}")
    shown = await door.node(told["node_id"])
    assert (shown["name"], shown["region"], shown["state"]) == ("rack-3", "there", "online")
    assert len(shown["gpus"]) == 4


async def test_a_lost_answer_loses_nothing_the_same_agent_joins_again(door: Door) -> None:
    secret, agent_id = await door.invited(), new_id()
    door.broker.lost_answers = 1
    assert (await door.join(secret, agent_id)).status_code == 503
    first = await door.joined(secret, agent_id)
    second = await door.joined(secret, agent_id)
    assert first["node_id"] == second["node_id"]
    login = f"node.{first['node_id']}"
    assert door.broker.passwords == {login: second["registry_password"]}
    assert await door.verify(login, first["registry_password"]) == 401
    assert await door.verify(login, second["registry_password"]) == 204
    assert len(await door.house.rows("SELECT id FROM nodes")) == 1


async def test_an_invitation_is_for_one_host(door: Door) -> None:
    secret = await door.invited()
    await door.joined(secret)
    refused = await door.join(secret)
    assert (refused.status_code, refused.json()["code"]) == (409, "invitation_used")


async def test_an_invitation_that_is_over_or_was_never_made_lets_nobody_in(door: Door) -> None:
    secret = await door.invited()
    await door.house.rows("UPDATE invitations SET expires_at = now() RETURNING id")
    assert (await door.join(secret)).status_code == 410
    await drive_joining(door.house.tools)
    assert await door.house.rows("SELECT state FROM invitations") == [("expired",)]
    assert (await door.join(secret)).status_code == 410
    assert (await door.join("never-made")).status_code == 404
    assert door.broker.passwords == {}


async def test_a_host_that_is_in_does_not_join_twice(door: Door) -> None:
    agent_id = new_id()
    await door.joined(await door.invited(), agent_id)
    refused = await door.join(await door.invited(), agent_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_joined")


async def test_a_revoked_host_is_shut_out_and_its_late_report_changes_nothing(door: Door) -> None:
    secret, agent_id = await door.invited(), new_id()
    told = await door.joined(secret, agent_id)
    node_id, login = told["node_id"], f"node.{told['node_id']}"
    await door.report(node_id, login)
    answer = await door.operator("POST", f"/{node_id}/revoke")
    assert (answer.status_code, answer.json()["credential"]) == (200, "dismissing")
    assert await door.verify(login, told["registry_password"]) == 401
    await door.dismissed(node_id)
    heard_at = (await door.node(node_id))["heard_at"]
    await door.report(node_id, login, sequence=2, name="late")
    assert (await door.node(node_id))["heard_at"] == heard_at
    assert (await door.join(secret, agent_id)).status_code == 410
    again = await door.joined(await door.invited(), agent_id)
    assert again["node_id"] == node_id
    await door.report(node_id, login, sequence=3)
    assert (await door.node(node_id))["heard_at"] != heard_at


async def test_a_dismissal_waits_for_a_broker_that_is_away(door: Door) -> None:
    told = await door.joined(await door.invited())
    door.broker.away = 2
    await door.operator("POST", f"/{told['node_id']}/revoke")
    await door.dismissed(told["node_id"])
    assert door.broker.away == 0


async def test_a_join_that_no_agent_comes_back_for_is_given_up(door: Door) -> None:
    door.broker.lost_answers = 1
    secret = await door.invited()
    assert (await door.join(secret)).status_code == 503
    assert len(door.broker.passwords) == 1
    await door.house.rows(
        "UPDATE node_credentials SET busy_until = now() - make_interval(secs => :s) RETURNING 1",
        s=HALF_JOINED_S,
    )
    await door.dismissed(await door.only_node())


async def test_a_join_that_was_revoked_while_the_broker_was_asked_is_refused(door: Door) -> None:
    admit = door.broker.admit

    async def admit_and_revoke(login: str, *rest: Any, **more: Any) -> None:
        await admit(login, *rest, **more)
        assert (
            await door.operator("POST", f"/{login.removeprefix('node.')}/revoke")
        ).status_code == 200

    door.broker.admit = admit_and_revoke  # type: ignore[method-assign]
    assert (await door.join(await door.invited())).status_code == 503
    await door.dismissed(await door.only_node())


async def test_two_joins_of_one_agent_ask_the_broker_one_after_the_other(door: Door) -> None:
    admit, secret, agent_id = door.broker.admit, await door.invited(), new_id()
    meanwhile: list[int] = []

    async def admit_slowly(*rest: Any, **more: Any) -> None:
        if not meanwhile:
            meanwhile.append((await door.join(secret, agent_id)).status_code)
        await admit(*rest, **more)

    door.broker.admit = admit_slowly  # type: ignore[method-assign]
    told = await door.joined(secret, agent_id)
    assert meanwhile == [503]
    assert list(door.broker.passwords.values()) == [told["registry_password"]]


async def test_a_report_counts_only_from_the_node_itself(door: Door) -> None:
    told = await door.joined(await door.invited())
    other = await door.joined(await door.invited())
    for source in (f"node.{other['node_id']}", "", "scheduler", "node.x"):
        await door.report(told["node_id"], source)
    assert (await door.node(told["node_id"]))["state"] == "silent"


async def test_whoever_fails_too_often_has_to_wait(door: Door) -> None:
    codes = [(await door.join("guess")).status_code for _ in range(31)]
    assert set(codes[:30]) == {404}
    assert codes[30] == 429


async def test_one_process_takes_no_other_hosts_and_says_what_to_do(house: House) -> None:
    headers = house.headers(role=Role.operator)
    answer = await house.http.post("/api/v1/nodes/invitations", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "needs_split_shape")
    body = {"secret": "x", "agent_id": str(new_id()), "name": "a", "region": "b"}
    answer = await house.http.post("/api/v1/nodes/join", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "needs_split_shape")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a\x00b"}, {"name": "\ud800"}, {"expires_in_s": 10**30}, {"expires_in_s": 1},
        {"name": "x" * 65}, {"surplus": 1}, {"region": ""},
    ],
)  # fmt: skip
async def test_an_odd_invitation_is_refused_in_words(door: Door, body: Json) -> None:
    answer = await door.house.http.post(
        "/api/v1/nodes/invitations",
        content=json.dumps(body),
        headers={**door.house.headers(role=Role.operator), "content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
