"""How long a host that is cut off may let an instance run."""

from datetime import datetime, timedelta

from shared.clock import utc_now
from shared.events import Envelope
from shared.events.agent import EndReason
from shared.events.market import WalletReaches
from tests.service.scheduler.conftest import Agent, House


async def tell(house: House, paid_until: datetime, *, said_at: datetime | None = None) -> None:
    told = WalletReaches(account_id=house.account_id, paid_until=paid_until)
    envelope = Envelope.wrap(told, subject=house.account_id)
    if said_at is not None:
        envelope = envelope.model_copy(update={"time": said_at})
    await house.bus.publish(envelope)


async def test_an_order_says_how_far_the_money_reached_when_it_was_rented(
    house: House, agent: Agent
) -> None:
    house.market.paid_until = utc_now() + timedelta(hours=5)
    rented = await house.rent(agent)
    await agent.ordered(rented["id"], paid_until=house.market.paid_until)


async def test_the_markets_newest_word_counts_and_reaches_the_host_at_once(
    house: House, agent: Agent
) -> None:
    house.market.paid_until = utc_now() + timedelta(hours=5)
    rented = await house.rent(agent)
    later = utc_now() + timedelta(hours=9)
    await tell(house, later)
    await agent.ordered(rented["id"], paid_until=later)
    await tell(house, utc_now(), said_at=utc_now() - timedelta(minutes=1))
    other = await house.rent(agent)
    # The rent brought a newer word than the late one.
    await agent.ordered(other["id"], paid_until=house.market.paid_until)


async def test_a_start_brings_a_new_word_for_all_that_the_account_runs(
    house: House, agent: Agent
) -> None:
    stopped = await house.stopped(agent)
    other = await house.running(agent)
    house.market.paid_until = utc_now() + timedelta(hours=3)
    await house.move(stopped, "start", mode="gpu")
    for instance in (stopped, other):
        await agent.ordered(instance["id"], paid_until=house.market.paid_until)


async def test_no_order_lets_run_for_more_than_a_week(house: House, agent: Agent) -> None:
    house.market.paid_until = utc_now() + timedelta(days=400)
    order = await agent.ordered((await house.rent(agent))["id"])
    assert order.paid_until is not None
    assert abs(order.paid_until - utc_now() - timedelta(days=7)) < timedelta(minutes=1)


async def test_what_its_host_ended_when_cut_off_says_so(house: House, agent: Agent) -> None:
    instance = await house.running(agent)
    await agent.stops(instance["id"], end_reason=EndReason.lease)
    shown = await house.show(instance["id"])
    assert (shown["status"], shown["stop_reason"]) == ("stopped", "lease")
    assert "断开" in shown["status_reason"]
