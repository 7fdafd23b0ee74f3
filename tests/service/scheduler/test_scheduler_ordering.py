"""Orders get lost; what that costs."""

from sqlalchemy import text

from shared.bus import Subscription
from shared.events.agent import NodeDesired, ObservedState
from tests.service.scheduler.conftest import Agent, House, Opener


async def lose_orders(house: House, agent: Agent) -> None:
    await house.bus.unsubscribe(f"agent.{agent.node_id}.desired")


async def hear_orders(house: House, agent: Agent) -> None:
    queue = f"agent.{agent.node_id}.desired"
    await house.bus.subscribe(Subscription(queue, (NodeDesired.type,), agent.take))


async def alter(house: House, change: str) -> None:
    async with house.tools.database.transaction() as session:
        await session.execute(text(f"ALTER TABLE instances {change}"))


async def test_an_order_that_the_reports_do_not_follow_is_told_again(open_house: Opener) -> None:
    async with open_house(retell_s=0.5, resend_s=3600.0) as house:
        agent = await house.add_agent()
        instance = await house.running(agent)
        await lose_orders(house, agent)
        await house.move(instance, "stop")
        await hear_orders(house, agent)
        await agent.ordered(instance["id"], want="stopped")


async def test_a_report_that_is_behind_brings_the_order_at_once(open_house: Opener) -> None:
    async with open_house(retell_s=3600.0, resend_s=3600.0) as house:
        agent = await house.add_agent()
        instance = await house.running(agent)
        agent.orders.clear()
        agent.states.clear()
        await agent.report(boot_id="after a restart")
        await agent.ordered(instance["id"], want="running")


async def test_everything_is_told_again_after_a_while(open_house: Opener) -> None:
    async with open_house(retell_s=3600.0, resend_s=0.5) as house:
        agent = await house.add_agent()
        instance = await house.running(agent)
        await agent.report()
        agent.orders.clear()
        await agent.ordered(instance["id"], want="running")


async def test_what_was_not_applied_is_looked_at_again_with_the_next_heartbeat(
    house: House, agent: Agent
) -> None:
    rented = await house.rent(agent)
    await agent.ordered(rented["id"])
    await alter(house, "ADD CONSTRAINT never CHECK (state <> 'running')")
    await agent.sees(rented["id"], ObservedState.running)
    assert (await house.show(rented["id"]))["status"] == "creating"
    await alter(house, "DROP CONSTRAINT never")
    await agent.report()
    assert (await house.show(rented["id"]))["status"] == "running"
