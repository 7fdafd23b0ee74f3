"""Running time is billed once, to the second, and only as far as it is proven."""

import random
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.market.domain.metering import floor_hour, total_due, whole_seconds
from services.market.metering import settle_hours
from shared.clock import utc_now
from shared.events import Payload
from shared.ids import new_id
from tests.service.market.conftest import House, Run, at

PRICE = Decimal("1.8800")


async def test_a_run_is_billed_from_its_start_to_its_stop(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.stopped(at(minutes=30, seconds=1, milliseconds=900)))
    bill = await house.bill(payer)
    assert (bill["seconds"], bill["amount"], bill["settled"]) == (1801, "0.9405", True)
    assert bill["id"] == str(run.id)
    assert await house.wallet(payer) == (Decimal("99.0595"), 0, Decimal("99.0595"))


@pytest.mark.parametrize("order", range(6))
async def test_doubled_and_reordered_facts_bill_once(house: House, payer: UUID, order: int) -> None:
    run = await house.authorised(payer)
    facts: list[Payload] = [
        run.started(at()), run.proven(at(minutes=20)), run.proven(at(minutes=40)),
        run.stopped(at(hours=1)),
    ]  # fmt: skip
    shuffled = facts * 2
    random.Random(order).shuffle(shuffled)
    for fact in shuffled:
        await house.tell(fact)
    assert (await house.bill(payer))["amount"] == "1.8800"
    assert await house.wallet(payer) == (100 - PRICE, 0, 100 - PRICE)
    assert len(await house.entries(payer)) == 2


async def test_one_message_delivered_twice_is_taken_once(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    envelope = await house.tell(run.stopped(at(hours=1)))
    await house.bus.publish(envelope)
    assert len(await house.entries(payer)) == 2


async def test_a_stop_that_overtakes_its_start_waits_for_it(house: House, payer: UUID) -> None:
    run = await house.authorised(payer)
    await house.tell(run.stopped(at(hours=1)))
    assert await house.state_of(run) == ("open", PRICE)
    assert (await house.get(payer, "/bills"))["items"] == []
    await house.tell(run.started(at()))
    assert await house.state_of(run) == ("closed", 0)
    assert (await house.bill(payer))["amount"] == "1.8800"


async def test_the_first_stop_stands(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.stopped(at(hours=1)))
    await house.tell(run.stopped(at(hours=9)))
    await house.tell(run.started(at(hours=2)))
    assert (await house.bill(payer))["seconds"] == 3600


async def test_the_first_stop_stands_before_the_start_is_known_too(
    house: House, payer: UUID
) -> None:
    run = await house.authorised(payer)
    for fact in (run.stopped(at(hours=1)), run.stopped(at(hours=9)), run.started(at())):
        await house.tell(fact)
    assert (await house.bill(payer))["seconds"] == 3600


async def test_each_clock_hour_is_debited_once_and_the_stop_takes_the_rest(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer, since=at(minutes=20))
    await house.tell(run.proven(at(hours=1, seconds=20)))
    for minute in (0, 1, 5, 30):
        await house.settle(run, at(hours=1, minutes=minute))
    assert [e["amount"] for e in await house.entries(payer)] == ["-1.2533", "100.0000"]
    await house.tell(run.stopped(at(hours=1, minutes=30)))
    amounts = [Decimal(e["amount"]) for e in await house.entries(payer)]
    assert sum(amounts[:-1]) == -total_due(PRICE, 70 * 60)


async def test_silence_is_not_billed(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.proven(at(minutes=10)))
    await house.settle(run, at(hours=5, minutes=30))
    await house.settle(run, at(hours=6, minutes=30))
    bill = await house.bill(payer)
    assert (bill["seconds"], bill["settled"]) == (600, False)
    assert (await house.entries(payer))[0]["amount"] == str(-total_due(PRICE, 600))
    await house.tell(run.stopped(at(minutes=10)))
    assert len(await house.entries(payer)) == 2


async def test_time_that_was_silent_and_is_proven_later_is_billed(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer)
    await house.settle(run, at(hours=3))
    assert len(await house.entries(payer)) == 1
    await house.tell(run.proven(at(hours=3, minutes=5)))
    await house.settle(run, at(hours=3, minutes=6))
    assert (await house.entries(payer))[0]["amount"] == "-5.6400"


async def test_the_last_proof_of_an_hour_is_waited_for_a_little(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.proven(at(minutes=59, seconds=40)))
    await house.settle(run, at(hours=1, seconds=10))
    assert len(await house.entries(payer)) == 1
    await house.tell(run.proven(at(hours=1, seconds=12)))
    await house.settle(run, at(hours=1, seconds=40))
    assert (await house.entries(payer))[0]["amount"] == "-1.8800"


async def test_an_older_proof_takes_nothing_back(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.proven(at(minutes=30)))
    await house.tell(run.proven(at(minutes=10)))
    assert (await house.bill(payer))["seconds"] == 1800


async def test_what_is_over_is_proven_no_further(house: House, payer: UUID) -> None:
    run = await house.running(payer)
    await house.tell(run.proven(at(minutes=10)))
    await house.tell(run.stopped(at(minutes=20)))
    await house.tell(run.proven(at(minutes=30)))
    proven = await house.rows("SELECT proven_until FROM authorisations")
    assert proven[0][0] == at(minutes=10)


async def test_a_proof_may_come_before_its_start(house: House, payer: UUID) -> None:
    run = await house.authorised(payer)
    await house.tell(run.proven(at(minutes=30)))
    await house.tell(run.started(at()))
    assert (await house.bill(payer))["seconds"] == 1800


async def test_time_billed_beyond_the_stop_goes_back_as_a_correction_of_the_debit(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer)
    await house.tell(run.proven(at(hours=1, seconds=5)))
    await house.settle(run, at(hours=1, minutes=1))
    await house.tell(run.stopped(at(minutes=59)))
    correction, debit, _ = await house.entries(payer)
    assert (correction["kind"], correction["corrects_id"]) == ("correction", debit["id"])
    bill = await house.bill(payer)
    assert (bill["seconds"], Decimal(bill["amount"])) == (3540, total_due(PRICE, 3540))
    assert (await house.wallet(payer))[0] == 100 - total_due(PRICE, 3540)


async def test_a_run_that_stopped_before_it_started_costs_nothing(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer)
    await house.tell(run.stopped(at(seconds=-5)))
    bill = await house.bill(payer)
    assert (bill["seconds"], bill["amount"], bill["settled"]) == (0, "0.0000", True)
    assert await house.wallet(payer) == (100, 0, 100)


async def test_a_second_costs_the_minimum(house: House, payer: UUID) -> None:
    run = await house.running(payer, mode="cpu")
    await house.tell(run.stopped(at(seconds=1)))
    assert (await house.bill(payer))["amount"] == "0.0100"


async def test_an_abandoned_start_is_never_billed_whatever_comes_after(
    house: House, payer: UUID
) -> None:
    run = await house.authorised(payer)
    for fact in (run.abandoned(), run.started(at()), run.stopped(at(hours=1))):
        await house.tell(fact)
    assert await house.state_of(run) == ("void", 0)
    assert await house.wallet(payer) == (100, 0, 100)


async def test_what_runs_cannot_be_abandoned_and_is_settled_by_its_stop(
    house: House, payer: UUID
) -> None:
    run = await house.running(payer)
    await house.tell(run.abandoned())
    assert await house.state_of(run) == ("active", PRICE)
    await house.tell(run.stopped(at(hours=1)))
    assert (await house.bill(payer))["amount"] == "1.8800"


async def test_a_fact_of_an_authorisation_never_given_is_kept_for_the_operator(
    house: House, payer: UUID
) -> None:
    stray = Run(new_id(), payer, new_id(), PRICE)
    await house.tell(stray.stopped(at()))
    parked = await house.rows("DELETE FROM dead_letters RETURNING type")
    assert [row[0] for row in parked] == ["scheduler.instance.stopped"]
    await house.tell(stray.proven(at()))
    assert await house.wallet(payer) == (100, 0, 100)


async def test_the_worker_settles_every_full_hour_of_everyone(house: House, payer: UUID) -> None:
    other, now = await house.account("50"), utc_now()
    started = now - timedelta(hours=3)
    for account in (payer, other):
        run = await house.running(account, since=started)
        await house.tell(run.proven(now))
    await settle_hours(house.tools)
    due = total_due(PRICE, whole_seconds(started, floor_hour(now)))
    for account in (payer, other):
        assert Decimal((await house.entries(account))[0]["amount"]) == -due


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    start_s=st.integers(0, 7200),
    lives_s=st.integers(0, 6 * 3600),
    proofs=st.lists(st.floats(0, 1), max_size=4),
    passes=st.lists(st.integers(0, 9 * 3600), max_size=4),
    seed=st.integers(0, 999),
)
async def test_any_hours_and_any_stop_sum_to_one_settlement(
    house: House,
    start_s: int,
    lives_s: int,
    proofs: list[float],
    passes: list[int],
    seed: int,
) -> None:
    account = await house.account("1000")
    run = await house.running(account, since=at(seconds=start_s), gpu_count=3)
    steps: list[tuple[str, float]] = [
        *(("proof", start_s + part * lives_s) for part in proofs),
        *(("pass", float(moment)) for moment in passes),
    ]
    random.Random(seed).shuffle(steps)
    for kind, moment in steps:
        if kind == "proof":
            await house.tell(run.proven(at(seconds=moment)))
        else:
            await house.settle(run, at(seconds=moment))
    await house.tell(run.stopped(at(seconds=start_s + lives_s)))
    due = total_due(run.price, lives_s)
    assert await house.wallet(account) == (1000 - due, 0, 1000 - due)
    debits = [Decimal(e["amount"]) for e in await house.entries(account)][:-1]
    assert sum(debits, Decimal(0)) == -due
    assert all(amount < 0 for amount in debits)
