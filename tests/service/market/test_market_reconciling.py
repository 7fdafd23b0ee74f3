"""Facts that never came: what has ended is settled by asking, what else differs is reported."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from services.market import reconciling
from services.market.clients.scheduler import RunEnd, Running
from services.market.reconciling import Reconciling, find_unbilled, settle_ended
from shared.errors import Unavailable
from shared.ids import new_id
from tests.service.market.conftest import T0, House, Opener, Run, at

GRACE_S = 600.0
LONG_AGO = GRACE_S + 1
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$
"""
REFUSING = "CREATE TRIGGER refuses BEFORE UPDATE ON authorisations FOR EACH ROW"
REFUSED = "EXECUTE FUNCTION refuse()"


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    """The worker passes once, at the start, when nothing runs."""
    async with open_house(reconcile_s=3600.0, reconcile_grace_s=GRACE_S) as opened:
        yield opened


def settled_late() -> float:
    return REGISTRY.get_sample_value("chusuan_market_runs_settled_late_total") or 0.0


def ends(house: House, run: Run, stopped_at: datetime, ago_s: float = LONG_AGO) -> None:
    """At the scheduler, and the fact is lost."""
    house.scheduler.runs = [r for r in house.scheduler.runs if r.authorisation_id != run.id]
    house.scheduler.ended[run.id] = RunEnd(stopped_at, ago_s)


def runs(house: House, run: Run, for_s: float = LONG_AGO) -> None:
    house.scheduler.runs.append(Running(run.id, run.instance_id, for_s))


async def test_a_run_whose_end_was_never_told_is_settled_at_the_time_on_record(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer)
    ends(house, run, at(minutes=30))
    before = settled_late()
    assert await settle_ended(house.tools) == 0
    assert await house.state_of(run) == ("closed", 0)
    assert await house.wallet(payer) == (Decimal("99.06"), 0, Decimal("99.06"))
    bill = await house.bill(payer)
    assert (bill["seconds"], bill["amount"]) == (1800, "0.9400")
    assert settled_late() == before + 1


async def test_it_pays_what_the_fact_would_have_paid_and_the_fact_that_comes_late_nothing_more(
    house: House,
) -> None:
    told, asked = await house.account("100"), await house.account("100")
    heard, lost = await house.running(told), await house.running(asked)
    await house.tell(heard.stopped(at(minutes=47, seconds=11)))
    ends(house, lost, at(minutes=47, seconds=11))
    for _ in range(2):
        await settle_ended(house.tools)
    assert await house.wallet(asked) == await house.wallet(told)
    await house.tell(lost.stopped(at(minutes=47, seconds=11)))
    await house.tell(lost.stopped(at(hours=5)))
    assert await house.wallet(asked) == await house.wallet(told)
    assert len(await house.entries(asked)) == len(await house.entries(told))


async def test_time_that_was_billed_beyond_the_end_goes_back(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.proven(at(hours=2)))
    await house.settle(run, at(hours=2, minutes=5))
    assert (await house.wallet(payer))[0] == Decimal("96.24")
    ends(house, run, at(hours=1))
    await settle_ended(house.tools)
    assert (await house.wallet(payer))[0] == Decimal("98.12")


async def test_an_end_of_a_moment_ago_is_left_to_its_fact(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    ends(house, run, at(minutes=30), ago_s=GRACE_S - 1)
    assert await settle_ended(house.tools) == 0
    assert (await house.state_of(run))[0] == "active"


async def test_what_runs_stays_as_it_is(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    runs(house, run)
    assert await settle_ended(house.tools) == 0
    assert await find_unbilled(house.tools) == 0
    assert (await house.state_of(run))[0] == "active"


async def test_a_run_that_the_scheduler_does_not_know_is_reported_and_not_settled(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer)
    await Reconciling().run(house.tools)
    assert REGISTRY.get_sample_value("chusuan_market_runs_unknown") == 1
    assert (await house.state_of(run))[0] == "active"
    ends(house, run, at(minutes=30))
    await Reconciling().run(house.tools)
    assert REGISTRY.get_sample_value("chusuan_market_runs_unknown") == 0


async def test_a_run_that_nobody_is_billed_for_is_reported_and_not_guessed(
    house: House, payer: UUID
) -> None:
    """Its start was lost; or the market never heard of it; or it was closed."""
    waiting, closed = await house.authorised(payer), await house.running(payer)
    await house.tell(closed.stopped(at(minutes=1)))
    stranger = Run(new_id(), payer, new_id(), Decimal(1))
    for run in (waiting, closed, stranger):
        runs(house, run)
    await Reconciling().run(house.tools)
    assert REGISTRY.get_sample_value("chusuan_market_runs_unbilled") == 3
    assert (await house.state_of(waiting))[0] == "open"
    assert (await house.state_of(closed))[0] == "closed"
    # The start comes after all, as by a retelling.
    await house.tell(waiting.started(T0))
    assert await find_unbilled(house.tools) == 2


async def test_a_start_of_a_moment_ago_is_left_to_its_fact(house: House, payer: UUID) -> None:
    runs(house, await house.authorised(payer), for_s=GRACE_S - 1)
    assert await find_unbilled(house.tools) == 0


async def test_one_that_ends_while_it_is_looked_at_is_not_reported(
    house: House, payer: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await house.running(payer)
    runs(house, run)
    asked = house.scheduler.running

    async def answers_and_then_it_stops(after: UUID | None) -> list[Running]:
        page = await asked(after)
        if not await house.rows("SELECT 1 FROM authorisations WHERE state = 'closed'"):
            await house.tell(run.stopped(at(minutes=30)))
            ends(house, run, at(minutes=30), ago_s=0)
        return page

    monkeypatch.setattr(house.scheduler, "running", answers_and_then_it_stops)
    assert await find_unbilled(house.tools) == 0


async def test_all_pages_are_looked_at(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "MOST_RUNS", 2)
    monkeypatch.setattr("services.market.clients.scheduler.MOST_RUNS", 2)
    payer = await house.account("100")
    started = [await house.running(payer) for _ in range(5)]
    for run in started:
        ends(house, run, at(minutes=30))
    strangers = [Run(new_id(), payer, new_id(), Decimal(1)) for _ in range(5)]
    for run in strangers:
        runs(house, run)
    assert await settle_ended(house.tools) == 0
    assert [(await house.state_of(run))[0] for run in started] == ["closed"] * 5
    assert await find_unbilled(house.tools) == 5


async def test_one_that_cannot_be_settled_holds_up_no_other(house: House, payer: UUID) -> None:
    broken, whole = [await house.running(payer) for _ in range(2)]
    async with house.tools.database.transaction() as session:
        await session.execute(text(REFUSE))
        await session.execute(text(f"{REFUSING} WHEN (OLD.id = '{broken.id}') {REFUSED}"))
    for run in (broken, whole):
        ends(house, run, at(minutes=30))
    with capture_logs() as logs:
        await settle_ended(house.tools)
    assert "run_not_settled" in [line["event"] for line in logs]
    assert (await house.state_of(broken))[0] == "active"
    assert (await house.state_of(whole))[0] == "closed"


async def test_a_scheduler_that_is_away_for_a_moment_is_no_failure_and_for_long_is_one(
    house: House,
) -> None:
    house.scheduler.away = True
    # Nothing runs: the first question of a pass is then for what the scheduler shows.
    worker = Reconciling()
    await worker.run(house.tools)
    await worker.run(house.tools)
    with pytest.raises(Unavailable):
        await worker.run(house.tools)
    house.scheduler.away = False
    await worker.run(house.tools)
    house.scheduler.away = True
    await worker.run(house.tools)
