"""What any report may do to any instance, and what none may."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.domain.loss import lose
from services.scheduler.domain.observation import Outcome, Seen, SeenSave, SeenState, Standing
from services.scheduler.domain.observation import observe as judge
from services.scheduler.domain.states import State, active_state, may_move

T0 = datetime(2026, 11, 24, tzinfo=UTC)
TOKEN, OTHER, IMAGE = UUID(int=1), UUID(int=2), UUID(int=3)
AT_REST = {State.stopped, State.failed, State.released}
PROVEN_STOPPED = {SeenState.stopped, SeenState.failed, SeenState.absent}

moments = st.integers(0, 7200).map(lambda s: T0 + timedelta(seconds=s))
perhaps_moments = st.none() | moments
save_states: st.SearchStrategy[Literal["saving", "saved", "failed"]] = st.sampled_from(
    ["saving", "saved", "failed"]
)
saves = st.builds(
    SeenSave, st.just(IMAGE), save_states, st.just("sha256:1"), st.just(7), st.just("")
)
seens = st.builds(
    Seen,
    generation=st.just(2),
    start_token=st.just(TOKEN),
    state=st.sampled_from(SeenState),
    started_at=perhaps_moments,
    finished_at=perhaps_moments,
    end_reason=st.sampled_from(
        [None, "ordered", "shutdown", "oom", "killed", "host_down", "lease"]
    ),
    save=st.none() | saves,
)


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    state = draw(st.sampled_from(State))
    resume = None
    if state is State.saving:
        resume = draw(st.sampled_from([State.running, State.stopping, State.stopped]))
    if state is State.lost:
        resume = draw(st.sampled_from([State.running, State.stopping]))
    under = active_state(state, resume)
    started = draw(moments) if under is State.running else draw(perhaps_moments)
    return Standing(
        state=state,
        resume=resume,
        mode=draw(st.sampled_from(["gpu", "cpu"])),
        generation=2,
        start_token=TOKEN,
        # What was authorised has been settled when its host was lost.
        authorised=under is State.running or (state is not State.lost and draw(st.booleans())),
        holds_gpus=draw(st.booleans()),
        # Neither is a save accepted during a restart, nor a restart during a save.
        restarts=state is State.stopping and draw(st.booleans()),
        started_at=started,
        releasing_at=draw(moments) if state is State.releasing else None,
        save_image_id=IMAGE if state is State.saving else None,
        settled_until=draw(moments) if state is State.lost else None,
    )


def observed(standing: Standing, seen: Seen, at: datetime) -> Outcome:
    """Where nothing changes: the standing itself."""
    unmoved = Outcome(standing.state, standing.resume, moved=False)
    return judge(standing, seen, at) or unmoved


@settings(max_examples=1000)
@given(standings(), seens, moments)
def test_a_report_moves_along_listed_edges_only(
    standing: Standing, seen: Seen, at: datetime
) -> None:
    outcome = observed(standing, seen, at)
    assert outcome.state is standing.state or may_move(standing.state, outcome.state)
    assert (outcome.resume is not None) is (outcome.state in (State.saving, State.lost))


@settings(max_examples=1000)
@given(standings(), seens, moments)
def test_gpus_come_back_only_where_the_container_is_proven_without_them(
    standing: Standing, seen: Seen, at: datetime
) -> None:
    outcome = observed(standing, seen, at)
    if outcome.returns_gpus:
        without_cards = standing.mode == "cpu" and seen.state is SeenState.running
        assert seen.state in PROVEN_STOPPED or without_cards


@settings(max_examples=1000)
@given(standings(), seens, moments)
def test_what_is_billed_lies_between_a_start_and_a_stop_and_never_after_a_release(
    standing: Standing, seen: Seen, at: datetime
) -> None:
    outcome = observed(standing, seen, at)
    if outcome.told_stop is not None:
        assert standing.authorised
        started = outcome.told_start or standing.started_at
        assert started is not None
        assert started <= outcome.told_stop
        if standing.releasing_at is not None:
            assert outcome.told_stop <= max(standing.releasing_at, started)
        assert not outcome.abandoned
    if outcome.abandoned:
        assert outcome.told_start is None


@settings(max_examples=1000)
@given(standings(), seens, moments)
def test_an_older_order_or_another_start_says_nothing(
    standing: Standing, seen: Seen, at: datetime
) -> None:
    assert judge(standing, replace(seen, generation=1), at) is None
    assert judge(standing, replace(seen, start_token=OTHER), at) is None


@settings(max_examples=1000)
@given(standings(), seens, moments)
def test_an_authorisation_does_not_outlive_a_rest_without_an_end(
    standing: Standing, seen: Seen, at: datetime
) -> None:
    """Whoever comes to rest with an open authorisation gets exactly one end of it."""
    outcome = observed(standing, seen, at)
    rested = active_state(standing.state, standing.resume) in AT_REST
    rests = active_state(outcome.state, outcome.resume) in AT_REST
    if rests and not rested and standing.authorised:
        assert (outcome.told_stop is not None) is not outcome.abandoned


@settings(max_examples=1000)
@given(standings(), seens, moments)
def test_what_goes_on_after_a_loss_is_billed_from_its_return_and_never_before_its_settlement(
    standing: Standing, seen: Seen, at: datetime
) -> None:
    outcome = observed(standing, seen, at)
    if standing.state is State.lost:
        assert outcome.told_start is None
        assert outcome.told_stop is None
        assert not outcome.abandoned
    if outcome.resumed_at is not None:
        assert (standing.state, standing.resume) == (State.lost, State.running)
        assert seen.state is SeenState.running
        assert standing.settled_until is not None
        assert outcome.resumed_at == max(at, standing.settled_until)


@settings(max_examples=1000)
@given(standings(), perhaps_moments)
def test_a_loss_moves_along_listed_edges_ends_what_is_authorised_once_and_keeps_the_gpus(
    standing: Standing, proof: datetime | None
) -> None:
    outcome = lose(standing, proof)
    if outcome is None:
        assert standing.state not in (State.creating, State.starting, State.running, State.saving)
        return
    assert outcome.state is standing.state or may_move(standing.state, outcome.state)
    assert (outcome.resume is not None) is (outcome.state is State.lost)
    assert not outcome.returns_gpus
    assert standing.authorised is ((outcome.told_stop is not None) or outcome.abandoned)
    assert outcome.calls_off_restart is (standing.restarts and outcome.state is State.lost)
    if outcome.told_stop is not None:
        assert standing.started_at is not None
        assert not outcome.abandoned
        assert standing.started_at <= outcome.told_stop
        assert outcome.told_stop <= max(standing.started_at, proof or standing.started_at)
        if standing.releasing_at is not None:
            assert outcome.told_stop <= max(standing.started_at, standing.releasing_at)


def test_no_host_without_a_clock_bills_from_before_its_instance_was_ordered() -> None:
    ordered = T0 + timedelta(hours=1)
    standing = Standing(
        state=State.creating, resume=None, mode="gpu", generation=2, start_token=TOKEN,
        authorised=True, holds_gpus=True, restarts=False, ordered_at=ordered,
    )  # fmt: skip
    long_ago, now = datetime(1970, 1, 1, tzinfo=UTC), ordered + timedelta(seconds=30)
    up = Seen(generation=2, start_token=TOKEN, state=SeenState.running, started_at=long_ago)
    assert observed(standing, up, now).told_start == now
    # Its reports are of that time too.
    assert observed(standing, up, long_ago).told_start == ordered
    # Clocks that differ by hours are believed: all of a run is told by the same one.
    behind = replace(up, started_at=ordered - timedelta(hours=2))
    assert observed(standing, behind, now).told_start == behind.started_at
    ended = replace(up, state=SeenState.stopped, finished_at=now + timedelta(seconds=9))
    end = observed(standing, ended, now)
    assert (end.told_start, end.told_stop) == (now, ended.finished_at)
