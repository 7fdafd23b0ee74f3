"""What only several hosts with engines, agents and credentials of their own can show."""

import asyncio
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import httpx
import pytest

from shared.ids import new_id
from tests.e2e.doors import ssh
from tests.e2e.hosts import Host
from tests.e2e.people import Json, Person, run
from tests.e2e.platform import RunningPlatform
from tests.e2e.process import Process
from tests.e2e.split import SplitPlatform
from tests.e2e.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
async def site(platform: RunningPlatform, operator: Person) -> SplitPlatform:
    """With all its hosts heard."""
    if not isinstance(platform, SplitPlatform):
        pytest.skip("one process is one host's agent and all services: --topology=split has more")

    async def all_online() -> bool:
        found = await operator.get("/nodes")
        return [n["state"] for n in found["items"]] == ["online"] * len(platform.hosts)

    await until(all_online, timeout_s=90, what="all hosts are online")
    return platform


async def node_of(operator: Person, host: Host) -> Json:
    for node in (await operator.get("/nodes"))["items"]:
        if node["name"] == f"host-{host.number}":
            found: Json = node
            return found
    raise AssertionError(host.name)


async def node_becomes(operator: Person, host: Host, state: str, *, timeout_s: float = 60) -> None:
    async def has_become() -> bool:
        return bool((await node_of(operator, host))["state"] == state)

    await until(has_become, timeout_s=timeout_s, what=f"host {host.number} becomes {state}")


async def wish_on(operator: Person, host: Host, image: Json) -> Json:
    node = await node_of(operator, host)
    return {"offer_id": node["id"], "gpu_count": 1, "image_id": image["id"], "billing": "payg"}


async def rent_on(user: Person, operator: Person, host: Host, image: Json) -> Json:
    rented = await user.post("/instances", await wish_on(operator, host, image))
    return await user.instance_in(rented["id"], "running")


async def refusal(person: Person, method: str, path: str, body: Json | None = None) -> Json:
    headers = {"idempotency-key": str(new_id())}
    answer = await person.http.request(method, f"/api/v1{path}", json=body, headers=headers)
    assert answer.status_code == 409, answer.text
    told: Json = answer.json()
    return told


async def release(user: Person, *instances: Json) -> None:
    for instance in instances:
        await user.post(f"/instances/{instance['id']}/release")
        await user.instance_in(instance["id"], "released")


async def test_every_host_is_shown_with_its_hardware_labels_and_credential(
    site: SplitPlatform, operator: Person
) -> None:
    nodes = {node["name"]: node for node in (await operator.get("/nodes"))["items"]}
    assert [
        (name, node["labels"], node["credential"], len(node["gpus"]), node["address"])
        for name, node in sorted(nodes.items())
    ] == [
        (f"host-{n}", {"rack": f"r{n}"}, "admitted", gpus, site.hosts[n - 1].address)
        for n, gpus in ((1, 8), (2, 4), (3, 4))
    ]
    assert len({node["id"] for node in nodes.values()}) == len(site.hosts)


async def test_an_image_saved_on_one_host_starts_on_another_with_what_was_put_into_it(
    site: SplitPlatform, operator: Person, user: Person, key: Path, image: Json
) -> None:
    one, two, _ = site.hosts
    first = await rent_on(user, operator, one, image)
    await ssh(first, key, "echo weights > /root/mark")
    await user.post(f"/instances/{first['id']}/save", {"name": "between-hosts"})
    saved = (await user.get("/images", tab="mine", name="between-hosts"))["items"][0]

    async def is_ready() -> bool:
        saved.update(await user.get(f"/images/{saved['id']}"))
        assert saved["status"] != "failed", saved
        return bool(saved["status"] == "ready")

    await until(is_ready, timeout_s=120, what="the image is saved and pushed")
    reference = f"{site.oci_address}/chusuan/u-"
    assert reference not in await two.docker("images", "--digests")
    second = await rent_on(user, operator, two, saved)
    assert second["ssh"]["host"] == two.address
    assert await ssh(second, key, "cat /root/mark") == "weights\n"
    pulled = await two.docker("images", "--digests", "--format", "{{.Repository}}@{{.Digest}}")
    assert re.search(rf"^{re.escape(reference)}\S+@sha256:[0-9a-f]{{64}}$", pulled, re.MULTILINE)
    await release(user, first, second)


async def test_a_draining_host_takes_nothing_new_and_what_runs_there_goes_on(
    site: SplitPlatform, operator: Person, user: Person, key: Path, image: Json
) -> None:
    host = site.hosts[1]
    node = await node_of(operator, host)
    standing = await rent_on(user, operator, host, image)
    assert (await operator.post(f"/nodes/{node['id']}/drain"))["state"] == "draining"
    told = await refusal(user, "POST", "/instances", await wish_on(operator, host, image))
    assert told["code"] == "host_draining"
    assert await ssh(standing, key, "echo alive") == "alive\n"
    await user.post(f"/instances/{standing['id']}/restart")
    again = await user.instance_in(standing["id"], "running")
    assert await ssh(again, key, "echo again") == "again\n"

    assert (await operator.post(f"/nodes/{node['id']}/resume"))["state"] == "online"
    beside = await rent_on(user, operator, host, image)
    assert beside["ssh"]["host"] == host.address
    await release(user, standing, beside)


async def test_a_host_is_not_removed_while_an_instance_stands_there(
    site: SplitPlatform, operator: Person, user: Person, key: Path, image: Json
) -> None:
    host = site.hosts[1]
    node = await node_of(operator, host)
    standing = await rent_on(user, operator, host, image)
    await user.post(f"/instances/{standing['id']}/stop")
    await user.instance_in(standing["id"], "stopped")
    told = await refusal(operator, "DELETE", f"/nodes/{node['id']}")
    assert (told["code"], told["instances"]) == ("node_in_use", 1)
    assert (await node_of(operator, host))["credential"] == "admitted"
    await user.post(f"/instances/{standing['id']}/start", {"mode": "cpu"})
    again = await user.instance_in(standing["id"], "running")
    assert await ssh(again, key, "echo alive") == "alive\n"
    await release(user, standing)


async def test_a_token_lets_one_agent_in_and_no_other(
    site: SplitPlatform, operator: Person, tmp_path: Path
) -> None:
    host = site.hosts[2]
    token = (await operator.post("/nodes/invitations", {"name": "extra"}))["token"]
    agent = site.agent(host)
    first, second = (with_token(agent, token, tmp_path / name) for name in ("one", "two"))
    await first.start()

    async def has_joined() -> bool:
        return "extra" in {n["name"] for n in (await operator.get("/nodes"))["items"]}

    try:
        await until(has_joined, timeout_s=60, what="the first agent joins")
        with pytest.raises(AssertionError, match="used by another host"):
            await run(*said(second), timeout_s=60)
    finally:
        await first.stop()
    extra = next(n for n in (await operator.get("/nodes"))["items"] if n["name"] == "extra")
    removed = await operator.http.delete(f"/api/v1/nodes/{extra['id']}")
    assert removed.status_code == 204, removed.text
    assert not await has_joined()
    # A host that is gone for good is told so, not let in by its old credential.
    await first.start()
    await until(
        lambda: told(first, "contact_lost"), timeout_s=60, what="the removed host is refused"
    )
    await first.stop()


def with_token(agent: Process, token: str, folder: Path) -> Process:
    """The same host's agent as another that has never been there. It looks after no container."""
    folder.mkdir()
    own = {
        "CHUSUAN_AGENT_STATE_DIR": str(folder / "state"),
        "CHUSUAN_AGENT_RUN_DIR": str(folder / "run"),
        "CHUSUAN_AGENT_FIREWALL": "false",
    }
    command = (*agent.command[:-1], token)
    return Process(folder.name, command, {**agent.environment, **own}, folder)


def said(process: Process) -> tuple[str, ...]:
    """Its command with its environment, for a program that is run to its end."""
    return ("env", *(f"{k}={v}" for k, v in process.environment.items()), *process.command)


async def told(process: Process, words: str) -> bool:
    return words in process.log()


async def test_the_agent_of_a_revoked_host_is_refused_and_its_containers_run_on(
    site: SplitPlatform, operator: Person, user: Person, key: Path, image: Json
) -> None:
    host = site.hosts[2]
    standing = await rent_on(user, operator, host, image)
    node = await node_of(operator, host)
    before = await site.containers_of(standing)
    await operator.post(f"/nodes/{node['id']}/revoke")
    await node_becomes(operator, host, "silent")
    await until(
        lambda: told(site.agent(host), "contact_lost"), timeout_s=60, what="the agent is shut out"
    )
    assert (await node_of(operator, host))["credential"] == "dismissed"
    assert await ssh(standing, key, "echo alive") == "alive\n"
    assert await site.containers_of(standing) == before != ""

    # A new invitation brings it back as the node that it was.
    invitation = await operator.post("/nodes/invitations", {"name": f"host-{host.number}"})
    agent = site.agent(host)
    await agent.stop()
    agent.command = (*agent.command[:-1], invitation["token"])
    await agent.start()
    await node_becomes(operator, host, "online")
    assert (await node_of(operator, host))["id"] == node["id"]
    await user.instance_in(standing["id"], "running")
    assert await site.containers_of(standing) == before
    await release(user, standing)


@pytest.fixture
async def copies(site: SplitPlatform) -> AsyncIterator[list[Process]]:
    """Of market and scheduler, beside the first ones; they lead all periodic work."""
    made = [site.add_copy(service) for service in ("market", "scheduler")]
    firsts = [site.parts[copy.name.removesuffix("-2")] for copy in made]
    await asyncio.gather(*(copy.start() for copy in made))
    for copy in made:
        await until(partial(answers, copy), timeout_s=90, what=f"{copy.name} is ready")
    await asyncio.gather(*(first.kill() for first in firsts))
    for copy in made:
        await until(partial(leads, site, copy), timeout_s=60, what=f"{copy.name} leads")
    await asyncio.gather(*(first.start() for first in firsts))
    await site.wait_until_ready()
    yield made
    for copy in made:
        await copy.kill()
        del site.parts[copy.name]


async def answers(copy: Process) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://127.0.0.1:{copy.command[-1]}/readyz")
    except httpx.TransportError:
        return False
    return answer.status_code == 200


async def leads(site: SplitPlatform, copy: Process) -> bool:
    """All that is led is led by this process."""
    assert copy.running is not None
    rows = await site.ask(
        copy.name.removesuffix("-2"), "SELECT holder FROM leases WHERE expires_at > now()"
    )
    leaders = {row["holder"].split("/")[1] for row in rows}
    return leaders == {str(copy.running.pid)}


async def test_a_rent_goes_on_when_the_copy_that_leads_is_killed(
    copies: list[Process], operator: Person, user: Person, site: SplitPlatform, image: Json
) -> None:
    before = Decimal((await user.get("/wallet"))["balance"])
    rented = await user.post("/instances", await wish_on(operator, site.hosts[0], image))
    for copy in copies:
        await copy.kill()
    await user.instance_in(rented["id"], "running")
    bills: list[Json] = []

    async def is_metered() -> bool:
        found = (await user.get("/bills", size=200))["items"]
        bills[:] = [bill for bill in found if bill["instance_id"] == rented["id"]]
        return any(Decimal(bill["amount"]) > 0 for bill in bills)

    async def is_settled() -> bool:
        await is_metered()
        held = Decimal((await user.get("/wallet"))["held"])
        return bool(bills) and all(bill["settled"] for bill in bills) and held == 0

    await until(is_metered, timeout_s=90, what="what runs is metered by the copy that is left")
    await release(user, rented)
    await until(is_settled, timeout_s=60, what="the bill is settled by the copy that is left")
    paid = before - Decimal((await user.get("/wallet"))["balance"])
    assert paid == sum(Decimal(bill["amount"]) for bill in bills)
