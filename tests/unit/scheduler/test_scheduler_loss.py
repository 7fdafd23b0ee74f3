"""A host that falls silent, is lost and comes back, in every order of events.

The machine knows what really ran. Whatever is reported, lost or asked for meanwhile: nothing is
billed twice or beyond its last proof, and no GPU comes back while its container runs.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.scheduler.domain.loss import lose
from services.scheduler.domain.observation import Outcome, Seen, SeenState, Standing, observe
from services.scheduler.domain.states import State, require_move, want_of

T0 = datetime(2026, 11, 24, tzinfo=UTC)


class LossAndReturn(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.tokens = 1
        self.standing = Standing(
            State.creating, None, "gpu", 1, UUID(int=1),
            authorised=True, holds_gpus=True, restarts=False,
        )  # fmt: skip
        # The agent: which order it has, and what really runs.
        self.order = (1, UUID(int=1), "running")
        self.token: UUID | None = None
        self.runs_since: datetime | None = None
        self.ended_at: datetime | None = None
        self.end_reason: str | None = None
        self.away = False
        # The scheduler's memory and its bills.
        self.shown_at: datetime | None = None
        self.bills: list[tuple[datetime, datetime]] = []
        self.open_since: datetime | None = None
        self.released_at: datetime | None = None
        self.stop_asked = False

    @rule(seconds=st.integers(1, 600))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def the_order_arrives(self) -> None:
        want = want_of(self.standing.state, self.standing.resume)
        if self.away or want is None:
            return
        self.order = (self.standing.generation, self.standing.start_token, want)
        if want == "running" and self.token != self.standing.start_token:
            self.token, self.runs_since = self.standing.start_token, self.now
            self.ended_at = self.end_reason = None
        elif want != "running":
            self._end("ordered")

    @rule(reason=st.sampled_from(["shutdown", "oom", "host_down", "lease"]))
    def the_container_ends(self, reason: str) -> None:
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self.runs_since is not None and self.ended_at is None:
            self.ended_at, self.end_reason = self.now, reason

    @rule()
    def the_link_breaks(self) -> None:
        self.away = True

    @rule()
    def the_link_heals(self) -> None:
        self.away = False

    @precondition(lambda self: not self.away)
    @rule()
    def a_report_arrives(self) -> None:
        seen = self._seen()
        if seen.state is SeenState.running and seen.start_token == self.standing.start_token:
            self.shown_at = self.now
        outcome = observe(self.standing, seen, self.now)
        if outcome is not None:
            self._apply(outcome)

    def _seen(self) -> Seen:
        generation, token, want = self.order
        if self.token != token:
            state = SeenState.absent if want == "absent" else SeenState.stopped
            return Seen(generation, token, state if want != "running" else SeenState.creating)
        if self.ended_at is None:
            return Seen(generation, token, SeenState.running, self.runs_since)
        state = SeenState.absent if want == "absent" else SeenState.stopped
        return Seen(generation, token, state, self.runs_since, self.ended_at, self.end_reason)

    @precondition(lambda self: self.away)
    @rule()
    def the_host_is_declared_lost(self) -> None:
        outcome = lose(self.standing, self.shown_at)
        if outcome is None:
            return
        if outcome.told_stop is not None and self.standing.releasing_at is None:
            assert outcome.told_stop == max(self.standing.started_at or T0, self.shown_at or T0)
        self._apply(outcome)

    @rule()
    def the_user_stops(self) -> None:
        standing = self.standing
        self.stop_asked = True
        if standing.state in (State.creating, State.starting, State.running):
            self._move(State.stopping, None)
        elif standing.state is State.lost and standing.resume is State.running:
            self._move(State.lost, State.stopping)

    @rule()
    def the_user_releases(self) -> None:
        if self.standing.state not in (State.releasing, State.released):
            self.released_at = self.now
            self._move(State.releasing, None)
            self.standing = replace(self.standing, releasing_at=self.now)

    @precondition(lambda self: self.standing.state is State.stopped)
    @rule()
    def the_user_starts_again(self) -> None:
        self.tokens += 1
        self.stop_asked = False
        self._move(State.starting, None)
        self.standing = replace(
            self.standing, start_token=UUID(int=self.tokens), authorised=True, holds_gpus=True,
            started_at=None, settled_until=None,
        )  # fmt: skip
        self.shown_at = None

    def _move(self, state: State, resume: State | None) -> None:
        if state is not self.standing.state:
            require_move(self.standing.state, state)
        generation = self.standing.generation + 1
        self.standing = replace(self.standing, state=state, resume=resume, generation=generation)

    def _apply(self, outcome: Outcome) -> None:
        """As `applying.py` writes it."""
        before = self.standing
        if outcome.state is not before.state:
            require_move(before.state, outcome.state)
        after = replace(before, state=outcome.state, resume=outcome.resume)
        if outcome.reorders:
            after = replace(after, generation=after.generation + 1)
        if outcome.told_start is not None:
            assert before.authorised
            after = replace(after, started_at=outcome.told_start)
            self.open_since = outcome.told_start
        if outcome.told_stop is not None:
            assert before.authorised
            assert self.open_since is not None
            self.bills.append((self.open_since, outcome.told_stop))
            self.open_since = None
            after = replace(after, authorised=False, settled_until=outcome.told_stop)
        if outcome.abandoned:
            assert before.authorised
            assert self.open_since is None
            after = replace(after, authorised=False)
        if outcome.resumed_at is not None:
            assert not before.authorised
            self.open_since = outcome.resumed_at
            after = replace(after, authorised=True, started_at=outcome.resumed_at)
        if outcome.returns_gpus:
            really_runs = self.runs_since is not None and self.ended_at is None
            assert not really_runs
            after = replace(after, holds_gpus=False)
        self.standing = after

    @invariant()
    def bills_never_overlap(self) -> None:
        bills = sorted(self.bills)
        assert all(start <= stop for start, stop in bills)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(bills))
        if self.open_since is not None and bills:
            assert bills[-1][1] <= self.open_since

    @invariant()
    def a_stop_is_final_until_the_next_start(self) -> None:
        if self.stop_asked:
            assert self.standing.state not in (State.starting, State.running)
            assert want_of(self.standing.state, self.standing.resume) != "running"

    @invariant()
    def nothing_is_billed_after_a_release(self) -> None:
        if self.released_at is not None:
            assert all(stop <= max(self.released_at, start) for start, stop in self.bills)

    @invariant()
    def what_is_billed_has_been_seen(self) -> None:
        assert all(stop <= self.now for _, stop in self.bills)

    @invariant()
    def a_bill_is_open_only_while_it_is_authorised(self) -> None:
        assert self.standing.authorised or self.open_since is None


LossAndReturn.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_a_lost_host_comes_back_and_the_bills_stay_right = LossAndReturn.TestCase
