"""A host is not heard any more: silent, lost, back; and when the platform suspects itself."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.scheduler.contact import Contact, declare_lost, judge_breaker, silence
from services.scheduler.domain.states import StopReason
from services.scheduler.stopping import stop_all_of
from shared.clock import utc_now
from shared.database import Database, DatabaseAway
from shared.events.agent import EndReason, ObservedState
from shared.events.scheduler import (
    InstanceResumed,
    InstanceSaveFailed,
    InstanceStarted,
    InstanceStopped,
    NodeChanged,
    StartAbandoned,
)
from shared.tokens import Role
from tests.service.scheduler.conftest import Agent, House, Opener

HOUR = timedelta(hours=1)


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    """The worker of contact does not come by: the test says when it looks, and at what time."""
    async with open_house(contact_s=3600.0) as started:
        yield started


async def lose(house: House, *agents: Agent) -> None:
    """These are not heard for an hour; the others are."""
    await _unheard(house, *agents)
    await silence(house.tools, utc_now())
    await declare_lost(house.tools, utc_now())


async def _unheard(house: House, *agents: Agent) -> None:
    for agent in agents:
        await house.rows(
            "UPDATE nodes SET heard_at = now() - interval '9 minutes' WHERE id = :id RETURNING id",
            id=agent.node_id,
        )


async def suspects(house: House) -> bool:
    async with house.tools.database.transaction() as session:
        return await judge_breaker(session, house.tools, utc_now())


async def proof(house: House) -> datetime:
    moment: datetime = (await house.rows("SELECT reported_at FROM nodes"))[0][0]
    return moment


async def states(house: House) -> list[str]:
    return [row[0] for row in await house.rows("SELECT state FROM nodes ORDER BY id")]


def moment(words: str) -> datetime:
    return datetime.fromisoformat(words)


async def test_a_silent_host_is_told_and_what_runs_there_is_left_alone(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await _unheard(house, agent)
    await silence(house.tools, utc_now())
    await house.facts.told(NodeChanged, state="silent")
    assert (await house.show(instance["id"]))["status"] == "running"
    assert house.facts.of(InstanceStopped) == []
    await agent.report()
    await house.facts.told(NodeChanged, state="online", count=2)


async def test_what_ran_on_a_lost_host_is_settled_at_its_last_proof_and_keeps_its_gpus(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await agent.report()
    last = await proof(house)
    await lose(house, agent)
    shown = await house.show(instance["id"])
    assert (shown["status"], shown["allowed_actions"]) == ("lost", ["stop", "release"])
    assert "失联" in shown["status_reason"]
    assert shown["apps"][0]["ready"] is False
    told = await house.facts.told(InstanceStopped)
    assert (moment(told[0]["stopped_at"]), told[0]["reason"]) == (last, "host_down")
    await house.facts.told(NodeChanged, state="lost")
    assert await house.promised() == 1000
    await declare_lost(house.tools, utc_now() + HOUR)
    assert len(house.facts.of(InstanceStopped)) == 1


async def test_the_last_proof_is_the_last_report_that_showed_it_running(
    house: House, agent: Agent
) -> None:
    """Heartbeats count; a report in which it does not run any more does not."""
    instance = await house.running(agent)
    for _ in range(3):
        await agent.report()
    last = await proof(house)
    await agent.sees(instance["id"], ObservedState.stopping)
    assert (await house.show(instance["id"]))["status"] == "running"
    await agent.report()
    await lose(house, agent)
    told = await house.facts.told(InstanceStopped)
    assert moment(told[0]["stopped_at"]) == last < await proof(house)


async def test_what_ran_on_goes_on_under_a_new_authorisation_from_the_return_on(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await agent.report()
    settled = await proof(house)
    await lose(house, agent)
    await agent.report()
    back = await proof(house)
    shown = await house.show(instance["id"])
    assert (shown["status"], shown["status_reason"]) == ("running", None)
    resumed = (await house.facts.told(InstanceResumed))[0]
    stopped = (await house.facts.told(InstanceStopped))[0]
    assert resumed["old_authorisation_id"] == stopped["authorisation_id"]
    assert resumed["authorisation_id"] != stopped["authorisation_id"]
    assert moment(stopped["stopped_at"]) == settled < back <= moment(resumed["started_at"])
    await house.move(instance, "stop")
    await agent.stops(instance["id"])
    told = await house.facts.told(InstanceStopped, count=2)
    assert told[1]["authorisation_id"] == resumed["authorisation_id"]
    assert len(house.facts.of(InstanceStarted)) == 1
    assert await house.promised() == 0


async def test_a_report_that_was_stuck_until_the_return_has_nothing_of_the_gap_billed(
    house: House, agent: Agent
) -> None:
    """The network kept it: made just after the last one that arrived."""
    await house.running(agent)
    await agent.report()
    settled = await proof(house)
    await lose(house, agent)
    arrived = utc_now()
    await agent.report(reported_at=settled + timedelta(microseconds=1))
    resumed = (await house.facts.told(InstanceResumed))[0]
    assert arrived <= moment(resumed["started_at"]) <= utc_now()


@pytest.mark.parametrize(
    ("end", "reason"), [(EndReason.host_down, "host_down"), (EndReason.lease, "lease")]
)
async def test_what_ended_meanwhile_is_stopped_and_gives_its_gpus_back(
    house: House, agent: Agent, end: EndReason, reason: str
) -> None:
    instance = await house.running(agent)
    await lose(house, agent)
    await agent.stops(instance["id"], end_reason=end)
    shown = await house.show(instance["id"])
    assert (shown["status"], shown["stop_reason"]) == ("stopped", reason)
    assert await house.promised() == 0
    assert len(house.facts.of(InstanceStopped)) == 1
    assert house.facts.of(InstanceResumed) == []
    await agent.ordered(instance["id"], want="stopped")


async def test_a_stop_asked_for_while_it_was_lost_is_carried_out_at_the_return(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await lose(house, agent)
    assert (await house.move(instance, "stop"))["status"] == "lost"
    await agent.report()
    assert (await house.show(instance["id"]))["status"] == "lost"
    await agent.stops(instance["id"])
    shown = await house.show(instance["id"])
    assert (shown["status"], shown["stop_reason"]) == ("stopped", "user")
    assert len(house.facts.of(InstanceStopped)) == 1
    assert house.facts.of(InstanceResumed) == []
    assert await house.promised() == 0


async def test_a_release_of_a_lost_one_ends_it_at_once_but_for_its_gpus(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await lose(house, agent)
    assert (await house.move(instance, "release"))["status"] == "releasing"
    assert await house.promised() == 1000
    await agent.report()
    assert (await house.show(instance["id"]))["status"] == "releasing"
    await agent.ordered(instance["id"], want="absent")
    await agent.sees(instance["id"], ObservedState.absent)
    assert (await house.show(instance["id"]))["status"] == "released"
    assert await house.promised() == 0
    assert len(house.facts.of(InstanceStopped)) == 1


async def test_what_was_being_released_when_its_host_was_lost_is_settled_too(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await house.move(instance, "release")
    await lose(house, agent)
    told = await house.facts.told(InstanceStopped)
    assert moment(told[0]["stopped_at"]) <= utc_now()
    assert (await house.show(instance["id"]))["status"] == "releasing"
    await agent.ordered(instance["id"], want="absent")
    await agent.sees(instance["id"], ObservedState.absent)
    assert len(house.facts.of(InstanceStopped)) == 1
    assert await house.promised() == 0


async def test_a_start_on_a_lost_host_is_given_up_and_stopped_at_the_return(
    house: House, agent: Agent
) -> None:
    rented = await house.rent(agent)
    await agent.ordered(rented["id"], want="running")
    await lose(house, agent)
    await house.facts.told(StartAbandoned, instance_id=rented["id"])
    # It had come up, unheard.
    await agent.sees(rented["id"], ObservedState.running, started_at=utc_now())
    assert (await house.show(rented["id"]))["status"] == "lost"
    await agent.stops(rented["id"])
    assert (await house.show(rented["id"]))["status"] == "stopped"
    assert house.facts.of(InstanceStarted) == house.facts.of(InstanceStopped) == []
    assert await house.promised() == 0


async def test_a_restart_on_a_lost_host_ends_both_its_authorisations(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await house.move(instance, "restart")
    await lose(house, agent)
    first, second = (str(a.authorisation_id) for a in house.market.asked)
    assert (await house.facts.told(InstanceStopped))[0]["authorisation_id"] == first
    assert (await house.facts.told(StartAbandoned))[0]["authorisation_id"] == second
    await agent.stops(instance["id"])
    assert (await house.show(instance["id"]))["status"] == "stopped"


async def test_a_save_on_a_lost_host_has_failed_and_the_run_goes_on_at_the_return(
    house: House, agent: Agent
) -> None:
    instance = await house.running(agent)
    await house.move(instance, "save", name="mine")
    await agent.ordered(instance["id"], want="running")
    await lose(house, agent)
    await house.facts.told(InstanceSaveFailed, reason="host lost")
    order = await agent.ordered(instance["id"], want="running", save=None)
    await agent.sees(instance["id"], ObservedState.running, generation=order.generation)
    assert (await house.show(instance["id"]))["status"] == "running"
    assert len(await house.facts.told(InstanceResumed)) == 1


async def test_an_empty_wallet_stops_what_is_lost_too(house: House, agent: Agent) -> None:
    instance = await house.running(agent)
    await lose(house, agent)
    async with house.tools.database.transaction() as session:
        await stop_all_of(
            session, house.tools.signals, house.account_id, StopReason.balance, said_at=utc_now()
        )
    order = await agent.ordered(instance["id"], want="stopped")
    await agent.sees(
        instance["id"], ObservedState.stopped, generation=order.generation,
        finished_at=utc_now(), end_reason=EndReason.ordered,
    )  # fmt: skip
    shown = await house.show(instance["id"])
    assert (shown["status"], shown["stop_reason"]) == ("stopped", "balance")


async def test_a_host_that_is_heard_again_before_its_turn_is_not_lost(
    house: House, agent: Agent
) -> None:
    await _unheard(house, agent)
    await silence(house.tools, utc_now())
    await agent.report()
    await declare_lost(house.tools, utc_now())
    assert await states(house) == ["online"]


async def test_a_host_that_never_reported_has_nothing_to_lose(house: House, agent: Agent) -> None:
    await house.rows("UPDATE nodes SET boot_id = '' RETURNING id")
    await lose(house, agent)
    assert await states(house) == ["silent"]


async def test_many_silent_at_once_are_not_lost_until_an_operator_says_so(house: House) -> None:
    agents = [await house.add_agent(gpus=1) for _ in range(4)]
    await _unheard(house, *agents[:3])
    await silence(house.tools, utc_now())
    assert await suspects(house)
    listed = await house.http.get("/api/v1/nodes", headers=house.headers(role=Role.operator))
    assert listed.json()["breaker"]["open"] is True
    # Ten minutes after they were last heard it has not forgotten them.
    await house.rows(
        "UPDATE nodes SET heard_at = heard_at - interval '1 minute' WHERE state = 'silent' "
        "RETURNING id"
    )
    await house.rows(
        "UPDATE breaker SET counted_from = counted_from - interval '2 minutes' RETURNING id"
    )
    assert await suspects(house)
    closed = await house.http.post(
        "/api/v1/nodes/breaker/close", headers=house.headers(role=Role.operator)
    )
    assert (closed.status_code, closed.json()["open"]) == (200, False)
    assert not await suspects(house)


async def test_the_breaker_closes_by_itself_when_they_are_back(house: House) -> None:
    agents = [await house.add_agent(gpus=1) for _ in range(4)]
    await _unheard(house, *agents[:3])
    await silence(house.tools, utc_now())
    assert await suspects(house)
    await agents[0].report()
    assert not await suspects(house)


async def test_half_of_them_silent_are_really_lost(house: House) -> None:
    agents = [await house.add_agent(gpus=1) for _ in range(4)]
    await _unheard(house, *agents[:2])
    await silence(house.tools, utc_now())
    assert not await suspects(house)


class Look:
    """The worker, at the pace of the test."""

    def __init__(self, house: House) -> None:
        self.contact = Contact(house.tools)

    async def until(self, house: House, wanted: list[str]) -> None:
        async with asyncio.timeout(10):
            while await states(house) != wanted:
                await self.contact.step()
                await asyncio.sleep(0.01)


async def test_whoever_has_just_begun_to_listen_judges_nobody(
    open_house: Opener,
) -> None:
    async with open_house(contact_s=3600.0) as house:
        agent = await house.add_agent()
        await _unheard(house, agent)
        await Contact(house.tools).step()
        assert await states(house) == ["online"]


async def test_a_bus_that_does_not_answer_is_not_the_hosts_fault(open_house: Opener) -> None:
    async with open_house(contact_s=3600.0, silent_after_s=0.05, lost_after_s=0.1) as house:
        agent, look = await house.add_agent(), Look(house)
        answers = house.bus.alive

        async def never(within_s: float) -> bool:
            return False

        house.bus.alive = never  # type: ignore[method-assign]
        await _unheard(house, agent)
        for _ in range(30):
            await look.contact.step()
            await asyncio.sleep(0.01)
        assert await states(house) == ["online"]
        house.bus.alive = answers  # type: ignore[method-assign]
        await look.until(house, ["lost"])


async def test_a_database_that_was_away_is_not_the_hosts_fault(
    open_house: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took no report meanwhile, so that all hosts look unheard when it is back."""
    async with open_house(contact_s=3600.0, silent_after_s=1.0, lost_after_s=2.0) as house:
        agent, gone, look = await house.add_agent(), await house.add_agent(), Look(house)
        while sorted(await states(house)) != ["lost", "online"]:
            await _unheard(house, gone)
            await agent.report()
            await look.contact.step()
            await asyncio.sleep(0.01)

        def away(_: Database) -> None:
            raise DatabaseAway("away")

        with monkeypatch.context() as broken:
            broken.setattr(Database, "transaction", away)
            with pytest.raises(DatabaseAway):
                await look.contact.step()
        await _unheard(house, agent)
        await look.contact.step()
        assert sorted(await states(house)) == ["lost", "online"]
        await look.until(house, ["lost", "lost"])


async def test_the_worker_finds_the_silent_and_the_lost_by_itself(open_house: Opener) -> None:
    changes: dict[str, Any] = {"contact_s": 0.02, "silent_after_s": 2.0, "lost_after_s": 4.0}
    async with open_house(**changes) as house:
        agent = await house.add_agent()
        instance = await house.running(agent)
        await house.until(instance["id"], "lost")
        await house.facts.told(NodeChanged, state="lost")
        await agent.report()
        assert (await house.show(instance["id"]))["status"] == "running"
