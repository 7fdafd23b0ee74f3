"""Reports that say what the ones before said: noted together, and none waits for another's host."""

import asyncio
import contextlib
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

import services.scheduler.heartbeats
from services.scheduler.heartbeats import LOOKS_AT_ONCE, Heartbeats
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
    # What it says is still to be looked at, but that it says something counts at once.
    assert after[1][0] > before[1][0]
    assert after[1][1] == before[1][1]
    assert after[2:] == before[2:]


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


async def test_who_is_not_looked_at_in_time_is_heard_all_the_same_and_looked_at_next_time(
    house: House, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.scheduler.heartbeats, "PATIENCE_S", 0.05)
    heartbeats = Heartbeats(house.tools.database, 30.0)
    before = await heard(house, agent)
    report = reported(agent, labels={"rack": "3"})
    async with contextlib.AsyncExitStack() as busy:
        for _ in range(LOOKS_AT_ONCE):
            assert await busy.enter_async_context(heartbeats.look())
        await take_report(house.tools, heartbeats, report)
    passed = await heard(house, agent)
    assert passed[0] > before[0]
    assert passed[1] == before[1]
    await take_report(house.tools, heartbeats, reported(agent, labels={"rack": "3"}))
    labels = await house.rows("SELECT labels FROM nodes WHERE id = :id", id=agent.node_id)
    assert labels[0].labels == {"rack": "3"}


async def test_a_silent_host_that_we_do_not_get_to_is_not_on_its_way_to_be_lost(
    house: House, agent: Agent
) -> None:
    """It comes back with a whole look; until then it is at least heard."""
    await house.rows(
        "UPDATE nodes SET state = 'silent', heard_at = now() - interval '1 hour' WHERE id = :id"
        " RETURNING id",
        id=agent.node_id,
    )
    heartbeats = Heartbeats(house.tools.database, 30.0)
    report = reported(agent)
    assert not await heartbeats.note(report, digest_of(report))
    assert utc_now() - (await heard(house, agent))[0] < timedelta(minutes=1)
