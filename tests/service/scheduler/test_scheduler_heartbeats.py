"""Reports that say what the ones before said: noted together, and none waits for another's host."""

import asyncio
from datetime import datetime, timedelta

from sqlalchemy import text

from services.scheduler.heartbeats import Heartbeats
from services.scheduler.observing import digest_of, take_report
from shared.clock import utc_now
from shared.events.agent import NodeReported
from shared.ids import new_id
from tests.service.scheduler.conftest import Agent, House


def reported(agent: Agent, **changes: object) -> NodeReported:
    agent.sequence += 1
    values = {
        "node_id": agent.node_id,
        "name": f"host-{agent.node_id.hex[-4:]}",
        "region": "wuhan-1",
        "simulated": True,
        "boot_id": agent.boot_id,
        "sequence": agent.sequence,
        "reported_at": utc_now(),
        "inventory": agent.inventory(),
        "instances": [],
    }
    return NodeReported.model_validate(values | changes)


async def heard(house: House, agent: Agent) -> tuple[datetime, int]:
    question = "SELECT heard_at, sequence FROM nodes WHERE id = :id"
    row = (await house.rows(question, id=agent.node_id))[0]
    return row.heard_at, row.sequence


async def test_heartbeats_of_a_moment_are_noted_together_and_each_only_where_it_is_one(
    house: House,
) -> None:
    agents = [await house.add_agent() for _ in range(4)]
    same, changed, older, stranger = agents
    heartbeats = Heartbeats(house.tools.database, 30.0)
    reports = [
        reported(same),
        reported(changed, labels={"rack": "3"}),
        reported(older, sequence=0),
        reported(stranger, node_id=new_id()),
    ]
    before = [await heard(house, agent) for agent in agents]
    answers = await asyncio.gather(*(heartbeats.note(each, digest_of(each)) for each in reports))
    assert answers == [True, False, False, False]
    after = [await heard(house, agent) for agent in agents]
    assert after[0][0] > before[0][0]
    assert after[0][1] == reports[0].sequence
    assert after[1:] == before[1:]


async def test_a_host_that_somebody_works_on_holds_up_no_other_ones_heartbeat(
    house: House,
) -> None:
    busy, free = await house.add_agent(), await house.add_agent()
    heartbeats = Heartbeats(house.tools.database, 30.0)
    reports = [reported(busy), reported(free)]
    async with house.tools.database.transaction() as session:
        await session.execute(
            text("SELECT 1 FROM nodes WHERE id = :id FOR UPDATE"), {"id": busy.node_id}
        )
        async with asyncio.timeout(5):
            notes = (heartbeats.note(each, digest_of(each)) for each in reports)
            assert await asyncio.gather(*notes) == [False, True]
    # It is looked at whole instead, and is heard all the same.
    await take_report(house.tools, heartbeats, reports[0])
    assert (await heard(house, busy))[1] == reports[0].sequence


async def test_a_whole_look_is_due_again_after_a_while_however_often_a_host_is_heard(
    house: House, agent: Agent
) -> None:
    heartbeats = Heartbeats(house.tools.database, 30.0)
    later = utc_now() + timedelta(seconds=31)
    report = reported(agent, reported_at=later)
    assert not await heartbeats.note(report, digest_of(report))


async def test_of_two_heartbeats_of_one_host_the_newer_counts(house: House, agent: Agent) -> None:
    heartbeats = Heartbeats(house.tools.database, 30.0)
    first, second = reported(agent), reported(agent)
    answers = await asyncio.gather(
        *(heartbeats.note(each, digest_of(each)) for each in (second, first))
    )
    assert answers == [True, False]
    assert (await heard(house, agent))[1] == second.sequence
