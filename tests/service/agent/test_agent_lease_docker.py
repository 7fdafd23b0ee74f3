"""A lease against a real container: what the agent does while nobody tells it anything."""

import asyncio
from datetime import timedelta

import pytest

from agent.journal import Entry, Journal
from shared.clock import utc_now
from shared.events.agent import DesiredInstance, EndReason
from shared.ids import new_id
from tests.service.agent.conftest import Stage, docker

pytestmark = pytest.mark.docker


def running(stage: Stage, order: DesiredInstance) -> str:
    return docker("inspect", "-f", "{{.State.Running}}", *stage.containers(order))


def journaled(stage: Stage, order: DesiredInstance) -> Entry | None:
    return Journal(stage.settings.state_dir).load(stage.reports[-1].node_id).get(order.instance_id)


async def test_a_lease_that_is_not_renewed_stops_the_instance_also_over_an_agent_restart(
    stage: Stage,
) -> None:
    order = stage.new_order()
    await stage.tell(order)
    await stage.until_state(order, "running")
    short = order.model_copy(update={"paid_until": utc_now() + timedelta(seconds=8)})
    await stage.tell(short)
    async with asyncio.timeout(5):
        while (entry := journaled(stage, order)) is None or entry.lease is None:
            await asyncio.sleep(0.01)
    await stage.end_agent()
    await stage.start_agent()
    assert running(stage, order) == "true"
    ended = await stage.until(order.instance_id, lambda o: o.state == "stopped")
    assert ended.end_reason == EndReason.lease
    assert ended.finished_at is not None
    assert abs((ended.finished_at - utc_now()).total_seconds()) < 30
    assert running(stage, order) == "false"
    longer = order.model_copy(update={"paid_until": utc_now() + timedelta(hours=1)})
    await stage.tell(longer)
    await stage.until_state(longer, "stopped")
    again = longer.model_copy(update={"start_token": new_id(), "generation": 2})
    await stage.tell(again)
    await stage.until_state(again, "running")
    assert running(stage, order) == "true"


async def test_a_renewed_lease_lets_it_run_on(stage: Stage) -> None:
    order = stage.new_order(paid_until=utc_now() + timedelta(seconds=6))
    await stage.tell(order)
    await stage.until_state(order, "running")
    renewed = order.model_copy(update={"paid_until": utc_now() + timedelta(hours=1)})
    await stage.tell(renewed)
    assert order.paid_until is not None
    while utc_now() < order.paid_until + timedelta(seconds=2):
        await stage.tell(renewed)
        await asyncio.sleep(0.5)
    latest = await stage.until_state(renewed, "running")
    assert latest.finished_at is None
