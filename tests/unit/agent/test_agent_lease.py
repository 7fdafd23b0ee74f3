"""How long an instance runs without a newer word from the scheduler."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine import NEVER_STARTED
from agent.journal import Entry, Lease, Run
from agent.lease import is_over, is_worth_writing, renewed
from agent.observe import observe
from agent.reconcile import Adopt, Expire, Stop, expire, plan, settle
from shared.events.agent import EndReason, ObservedState, SaveOrder
from tests.unit.agent.orders import FIRST, NOW, SECOND, a_container, an_entry, an_order

BOOT = "boot"
RUN = Run(token=FIRST, before=NEVER_STARTED, boot_id=BOOT, began="t1", started_at=NOW)
RUNNING = a_container(running=True, started_raw="t1")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lease(until_s: float, *, issued_s: float = 0.0, boot_id: str = BOOT) -> Lease:
    return Lease(boot_id=boot_id, until_s=until_s, issued_at=after(issued_s))


def renew(known: Lease | None, paid_s: float | None, issued_s: float, now_s: float) -> Lease | None:
    paid_until = None if paid_s is None else after(paid_s)
    order = an_order(paid_until=paid_until)
    return renewed(known, order, after(issued_s), boot_id=BOOT, now_s=now_s)


def test_the_schedulers_span_counts_from_now_on_this_hosts_own_clock() -> None:
    assert renew(None, paid_s=600, issued_s=100, now_s=5000) == lease(5500, issued_s=100)


def test_a_newer_order_renews_and_the_same_one_again_prolongs_nothing() -> None:
    known = renew(None, paid_s=600, issued_s=100, now_s=5000)
    assert renew(known, paid_s=600, issued_s=100, now_s=5400) == known
    assert renew(known, paid_s=600, issued_s=50, now_s=5400) == known
    assert renew(known, paid_s=900, issued_s=110, now_s=5010) == lease(5800, issued_s=110)
    assert renew(known, paid_s=300, issued_s=110, now_s=5010) == lease(5200, issued_s=110)
    assert renew(known, paid_s=None, issued_s=110, now_s=5010) is None


def test_a_lease_of_an_earlier_boot_says_nothing() -> None:
    old = lease(10, boot_id="before")
    assert not is_over(old, boot_id=BOOT, now_s=1e9)
    assert renew(old, paid_s=60, issued_s=0, now_s=3) == lease(63)


def test_without_a_lease_nothing_is_ever_over() -> None:
    assert not is_over(None, boot_id=BOOT, now_s=1e12)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1000),  # pause before the message arrives
            st.floats(-100, 5000),  # paid for, from when it was issued
            st.booleans(),  # the newest message again instead of a new one
        ),
        min_size=1,
        max_size=20,
    ),
    st.floats(0, 3600),
)
def test_an_instance_never_outlives_what_the_newest_order_paid_for(
    messages: list[tuple[float, float, bool]], ahead_s: float
) -> None:
    """ahead_s: of the scheduler's clock before ours, which must not matter."""
    known: Lease | None = None
    now_s, issued_s, allowed_until = 100.0, 0.0, 0.0
    paid_s = 0.0
    for pause_s, paid, is_repeat in messages:
        now_s += pause_s
        if not is_repeat or known is None:
            issued_s = now_s + ahead_s
            paid_s = issued_s + paid
            if known is None or after(issued_s) > known.issued_at:
                allowed_until = now_s + paid
        known = renew(known, paid_s, issued_s, now_s)
    assert known is not None
    assert known.until_s == pytest.approx(allowed_until, abs=1e-3)
    assert not is_over(known, boot_id=BOOT, now_s=allowed_until - 0.01)
    assert is_over(known, boot_id=BOOT, now_s=allowed_until + 0.01)


@given(st.floats(0, 1e6), st.floats(-1e6, 1e6))
def test_the_journal_never_grants_more_than_a_second_beyond_and_loses_at_most_a_hundredth(
    until_s: float, gained_s: float
) -> None:
    old, new = lease(until_s), lease(until_s + gained_s, issued_s=1)
    if not is_worth_writing(old, new, now_s=0):
        assert old.until_s <= new.until_s + 1
        assert new.until_s - old.until_s <= max(1.0, new.until_s / 100) + 1e-6


def test_a_lease_that_begins_or_ends_or_is_of_another_boot_is_written() -> None:
    assert is_worth_writing(None, lease(5), now_s=0)
    assert is_worth_writing(lease(5), None, now_s=0)
    assert is_worth_writing(lease(5, boot_id="before"), lease(5), now_s=0)
    assert not is_worth_writing(None, None, now_s=0)


def test_when_it_is_over_the_instance_is_stopped_and_never_removed() -> None:
    entry = an_entry(run=RUN)
    assert plan(an_order(), "spec", [RUNNING], entry, lease_over=True) == [Expire("c1")]
    assert plan(an_order(), "spec", [RUNNING], an_entry(), lease_over=True) == [
        Adopt("c1", "t1"),
        Expire("c1"),
    ]
    assert expire(RUNNING, entry) == [Expire("c1")]
    assert expire(a_container(started_raw="t1"), entry) == []
    assert expire(None, entry) == []


def test_a_stop_and_a_release_go_before_the_lease() -> None:
    entry = an_entry(run=RUN)
    stop = an_order(want="stopped")
    assert plan(stop, "spec", [RUNNING], entry, lease_over=True) == [Stop("c1")]


def test_nothing_starts_while_the_lease_is_over() -> None:
    assert plan(an_order(), "spec", [], an_entry(), lease_over=True) == []
    entry = an_entry(token=SECOND, run=RUN)
    order = an_order(start_token=SECOND)
    assert plan(order, "spec", [a_container(started_raw="t1")], entry, lease_over=True) == []


def ended(*, finished: datetime, **run: object) -> Entry:
    entry = an_entry(run=RUN.model_copy(update=run))
    container = a_container(started_raw="t1", finished_at=finished, exit_code=137)
    return settle(entry, container, boot_id=BOOT, now=after(99))


def test_its_end_is_told_as_that_of_a_lease_and_its_token_starts_no_more() -> None:
    entry = ended(finished=after(11), expired_at=after(10))
    assert entry.run is not None
    assert entry.run.end_reason == EndReason.lease
    stopped = a_container(started_raw="t1", finished_at=after(11))
    assert plan(an_order(), "spec", [stopped], entry) == []
    seen = observe(an_order(), entry, stopped, None)
    assert (seen.state, seen.end_reason) == (ObservedState.stopped, EndReason.lease)
    renewed_order = an_order(start_token=SECOND)
    assert plan(renewed_order, "spec", [stopped], entry.model_copy(update={"token": SECOND})) != []


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"expired_at": after(10), "ordered_at": after(11)}, EndReason.lease),
        ({"expired_at": after(11), "ordered_at": after(10)}, EndReason.ordered),
        ({"expired_at": after(30)}, EndReason.killed),
    ],
)
def test_the_first_cause_counts_and_what_ended_before_is_no_effect(
    run: dict[str, object], reason: EndReason
) -> None:
    entry = ended(finished=after(12), **run)
    assert entry.run is not None
    assert entry.run.end_reason == reason


def test_a_save_is_finished_also_when_the_lease_is_over() -> None:
    save = SaveOrder(image_id=FIRST, reference="r:1")
    actions = plan(
        an_order(save=save), "spec", [a_container(started_raw="t1")], an_entry(run=RUN),
        lease_over=True,
    )  # fmt: skip
    assert [type(action).__name__ for action in actions] == ["Save"]
