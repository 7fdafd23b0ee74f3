"""The profile `agent`: one command makes this machine a host of its own platform."""

import pytest

from tests.deploy.people import Json, Person, operator
from tests.deploy.stack import Stack
from tests.e2e.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(600)]

ONLINE_WITHIN_S = 60


async def until_online(admin: Person) -> Json:
    found: Json = {}

    async def is_online() -> bool:
        nodes = (await admin.call("GET", "/nodes"))["items"]
        found.update(nodes[0] if nodes else {})
        return found.get("state") == "online"

    await until(
        is_online, timeout_s=ONLINE_WITHIN_S, what="the host reports through edge and broker"
    )
    return found


async def test_this_machine_joins_by_itself_and_stays_the_same_host(stack: Stack) -> None:
    admin = await operator(stack)
    try:
        stack.run("--profile", "agent", "up", "-d")
        await stack.until_well()
        joined = await until_online(admin)
        assert joined["simulated"]
        offers = (await admin.call("GET", "/offers"))["items"]
        assert joined["id"] in {offer["id"] for offer in offers}

        stack.kill("agent")
        stack.run(
            "--profile", "agent", "up", "-d", "--force-recreate", "--no-deps", "invite", "agent"
        )
        await stack.until_well()
        again = await until_online(admin)
        assert again["id"] == joined["id"]
    finally:
        stack.run("--profile", "agent", "rm", "-s", "-f", "agent", "invite")
