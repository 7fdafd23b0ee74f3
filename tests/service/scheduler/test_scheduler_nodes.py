"""Operators and their nodes: emptied, taken back, removed; who may and what it does to others."""

import asyncio
from typing import Any

import httpx
import pytest

from shared.events.scheduler import InstanceReleased, InstanceStopped, NodeChanged, StartAbandoned
from shared.ids import new_id
from shared.tokens import Role
from tests.service.scheduler.conftest import Agent, House, Json


async def ask(house: House, method: str, path: str, **query: Any) -> httpx.Response:
    headers = house.headers(role=Role.operator)
    return await house.http.request(method, f"/api/v1/nodes{path}", headers=headers, params=query)


async def done(house: House, method: str, path: str) -> Json:
    answer = await ask(house, method, path)
    assert answer.status_code == 200, answer.text
    shown: Json = answer.json()
    return shown


async def silent(house: House, agent: Agent) -> None:
    await house.rows(
        "UPDATE nodes SET state = 'silent' WHERE id = :id RETURNING id", id=agent.node_id
    )


async def test_a_draining_host_takes_nothing_new_and_says_so(house: House, agent: Agent) -> None:
    stopped = await house.stopped(agent)
    shown = await done(house, "POST", f"/{agent.node_id}/drain")
    assert (shown["state"], shown["draining"]) == ("draining", True)
    assert (await house.facts.told(NodeChanged, state="draining"))[0]["gpu_free"] == 4
    rent = await house.post("/instances", house.wish(agent))
    assert (rent.status_code, rent.json()["code"]) == (409, "host_draining")
    for wish in ({"mode": "gpu"}, {"mode": "cpu"}, {"mode": "gpu", "wait": True}):
        start = await house.post(f"/instances/{stopped['id']}/start", wish)
        assert (start.status_code, start.json()["code"]) == (409, "host_draining")
    assert (await house.show(stopped["id"]))["gpu_availability"] == "none"
    assert len(house.market.asked) == 1


async def test_what_runs_on_a_draining_host_runs_on_and_may_be_restarted(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await done(house, "POST", f"/{agent.node_id}/drain")
    await agent.report(labels={"rack": "3"})
    assert (await house.show(instance["id"]))["status"] == "running"
    await house.move(instance, "restart")
    await agent.stops(instance["id"])
    await agent.runs(instance["id"])
    assert (await house.show(instance["id"]))["status"] == "running"
    await house.move(instance, "stop")
    await agent.stops(instance["id"])
    assert (await house.move(instance, "release"))["status"] == "releasing"


async def test_who_waits_for_a_draining_host_is_told_why_and_placed_when_it_is_back(
    house: House, agent: Agent
) -> None:
    first = await house.running(agent, gpu_count=4)
    waiting = await house.rent(agent)
    await done(house, "POST", f"/{agent.node_id}/drain")
    async with asyncio.timeout(10):
        while "停机维护" not in ((await house.show(waiting["id"]))["status_reason"] or ""):
            await asyncio.sleep(0.01)
    await house.move(first, "stop")
    await agent.stops(first["id"])
    assert (await house.show(waiting["id"]))["status"] == "queued"
    shown = await done(house, "POST", f"/{agent.node_id}/resume")
    assert (shown["state"], shown["draining"]) == ("online", False)
    await house.until(waiting["id"], "creating")


async def test_labels_and_boot_id_are_shown_as_the_agent_says_them_within_bounds(
    house: House, agent: Agent
) -> None:
    odd = {f"k{i}": "v" for i in range(50)} | {"x\x00": "y", "long": "z" * 1000}
    await agent.report(labels={"rack": "3", **odd})
    shown = await done(house, "GET", f"/{agent.node_id}")
    assert shown["labels"]["rack"] == "3"
    assert len(shown["labels"]) == 32
    assert shown["boot_id"] == "boot-1"
    listed = await done(house, "GET", "")
    assert [n["id"] for n in listed["items"]] == [str(agent.node_id)]
    assert listed["breaker"] == {"open": False, "opened_at": None}


async def test_a_host_on_which_something_stands_is_not_removed(house: House, agent: Agent) -> None:
    await house.stopped(agent)
    refused = await ask(house, "DELETE", f"/{agent.node_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "node_in_use")
    forced = await ask(house, "DELETE", f"/{agent.node_id}", force=True)
    assert (forced.status_code, forced.json()["code"]) == (409, "node_alive")


async def test_an_empty_host_is_removed_for_good(house: House, agent: Agent) -> None:
    assert (await ask(house, "DELETE", f"/{agent.node_id}")).status_code == 204
    await house.facts.told(NodeChanged, state="removed")
    assert (await ask(house, "GET", f"/{agent.node_id}")).status_code == 404
    assert (await done(house, "GET", ""))["items"] == []
    await agent.report()
    assert await house.rows("SELECT state FROM nodes") == [("removed",)]
    rent = await house.post("/instances", house.wish(agent))
    assert (rent.status_code, rent.json()["code"]) == (404, "offer_not_found")
    for path in ("drain", "resume", "revoke"):
        assert (await ask(house, "POST", f"/{agent.node_id}/{path}")).status_code == 404
    assert (await ask(house, "DELETE", f"/{agent.node_id}")).status_code == 404


async def test_with_force_what_stood_on_a_machine_that_is_gone_ends_with_it(
    house: House, agent: Agent
) -> None:
    running, starting = await house.running(agent), await house.rent(agent)
    stopped = await house.stopped(agent)
    waiting = await house.rent(agent, gpu_count=3)
    assert waiting["status"] == "queued"
    proof = (await house.rows("SELECT reported_at FROM nodes"))[0][0]
    await silent(house, agent)
    assert (await ask(house, "DELETE", f"/{agent.node_id}", force=True)).status_code == 204
    for instance in (running, starting, stopped, waiting):
        shown = await house.show(instance["id"])
        assert (shown["status"], shown["ssh"]) == ("released", None)
    assert await house.promised() == 0
    assert await house.rows("SELECT * FROM ports") == []
    await house.facts.told(InstanceReleased, count=4)
    told = await house.facts.told(InstanceStopped, instance_id=running["id"])
    assert [t["stopped_at"] for t in told] == [proof.isoformat().replace("+00:00", "Z")]
    for instance in (starting, waiting):
        assert len(await house.facts.told(StartAbandoned, instance_id=instance["id"])) == 1
    await agent.report()
    assert (await house.show(running["id"]))["status"] == "released"


@pytest.mark.parametrize("path", ["", "/drain", "/resume", "/revoke"])
async def test_only_operators_touch_nodes(house: House, agent: Agent, path: str) -> None:
    method = "POST" if path else "DELETE"
    answer = await house.http.request(
        method, f"/api/v1/nodes/{agent.node_id}{path}", headers=house.headers()
    )
    assert answer.status_code == 403
    assert (await ask(house, method, f"/{new_id()}{path}")).status_code == 404
