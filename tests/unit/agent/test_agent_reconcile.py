"""The plan for one instance: case by case, and under any crash."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent.engine import NEVER_STARTED, ContainerFact
from agent.journal import Entry, Failure, Run
from agent.observe import observe
from agent.reconcile import (
    Action,
    Adopt,
    AwaitReady,
    Commit,
    Create,
    Erase,
    Remove,
    Restore,
    Save,
    Start,
    Stop,
    Untag,
    current_of,
    end_reason,
    is_outdated,
    plan,
    settle,
)
from shared.events.agent import DesiredInstance, EndReason, ObservedState, SaveOrder
from tests.unit.agent.orders import FIRST, NOW, SECOND, a_container, an_entry, an_order


def a_run(**changes: object) -> Run:
    values: dict[str, object] = {"token": FIRST, "before": NEVER_STARTED, "boot_id": "boot"}
    return Run.model_validate({**values, **changes})


def test_a_new_instance_is_created_started_and_awaited_without_anything_between() -> None:
    actions = plan(an_order(), "spec", [], an_entry())
    assert actions == [Create(0), Start(None, ""), AwaitReady()]


def test_an_older_generation_is_outdated_and_the_erased_come_back_by_no_order() -> None:
    assert is_outdated(an_order(generation=2), an_entry())
    assert not is_outdated(an_order(generation=3), an_entry())
    assert is_outdated(an_order(generation=9), an_entry(erased_at=NOW))
    assert not is_outdated(an_order(generation=9, want="absent"), an_entry(erased_at=NOW))


def test_a_journaled_start_that_never_happened_is_begun() -> None:
    entry = an_entry(run=a_run())
    assert plan(an_order(), "spec", [a_container()], entry) == [
        Start("c1", NEVER_STARTED),
        AwaitReady(),
    ]


def test_what_ended_by_itself_stays_ended() -> None:
    entry = settle(an_entry(run=a_run()), a_container(started_raw="t1"), boot_id="boot", now=NOW)
    assert plan(an_order(), "spec", [a_container(started_raw="t1")], entry) == []


def test_what_vanished_after_its_start_is_not_made_again() -> None:
    entry = settle(an_entry(run=a_run(began="t1")), None, boot_id="boot", now=NOW)
    assert entry.run is not None
    assert entry.run.end_reason == EndReason.killed
    assert plan(an_order(), "spec", [], entry) == []


def test_a_new_token_stops_the_old_run_and_then_starts_the_same_container() -> None:
    entry = an_entry(token=SECOND, run=a_run(began="t1"))
    order = an_order(start_token=SECOND)
    running = a_container(running=True, started_raw="t1")
    assert plan(order, "spec", [running], entry) == [Stop("c1")]
    stopped = a_container(started_raw="t1")
    assert plan(order, "spec", [stopped], entry) == [Start("c1", "t1"), AwaitReady()]


def test_another_shape_carries_the_system_disk_over_before_the_old_one_goes() -> None:
    entry = an_entry(token=SECOND, run=a_run(began="t1"))
    order = an_order(start_token=SECOND, mode="cpu")
    assert plan(order, "other", [a_container(started_raw="t1", disk=2)], entry) == [
        Commit("c1", 3),
        Create(3),
        Remove("c1"),
        Untag(2),
        Start(None, ""),
        AwaitReady(),
    ]


def test_a_leftover_of_a_change_of_shape_goes_before_the_newer_starts() -> None:
    entry = an_entry(token=SECOND, run=a_run(began="t1"))
    old, new = a_container(started_raw="t1"), a_container(id_="c2", spec="other", disk=1)
    actions = plan(an_order(start_token=SECOND), "other", [old, new], entry)
    assert actions[:3] == [Remove("c1"), Untag(0), Start("c2", NEVER_STARTED)]


def test_a_lost_journal_adopts_what_runs_and_restarts_nothing_that_ran() -> None:
    running = a_container(running=True, started_raw="t1", token=SECOND)
    assert plan(an_order(), "spec", [running], an_entry()) == [Adopt("c1", "t1")]
    ended = a_container(started_raw="t1")
    assert plan(an_order(), "spec", [ended], an_entry()) == [Adopt("c1", "t1")]


def test_stop_and_release_act_on_whatever_is_there() -> None:
    running = a_container(running=True, started_raw="t1")
    entry = an_entry(run=a_run(began="t1"))
    assert plan(an_order(want="stopped"), "x", [running], entry) == [Stop("c1")]
    assert plan(an_order(want="absent"), "x", [running], entry) == [Erase(("c1",))]
    assert plan(an_order(want="absent"), "x", [], an_entry(erased_at=NOW)) == []


def test_a_failed_start_is_not_tried_again_for_its_token() -> None:
    entry = an_entry(failure=Failure(token=FIRST, message="no image"))
    assert plan(an_order(), "spec", [], entry) == []
    seen = observe(an_order(), entry, None, None)
    assert (seen.state, seen.message) == (ObservedState.failed, "no image")


def test_a_save_is_done_once_and_again_after_a_crash_within_it() -> None:
    save = SaveOrder(image_id=UUID(int=7), reference="r:1")
    order = an_order(want="stopped", save=save)
    stopped = a_container(started_raw="t1")
    entry = an_entry(run=a_run(began="t1", finished_at=NOW))
    assert plan(order, "spec", [stopped], entry) == [Save("c1", save)]
    half = an_entry(run=entry.run, save={"image_id": save.image_id, "state": "saving"})
    assert plan(order, "spec", [stopped], half, has_originals=True) == [
        Restore(),
        Save("c1", save),
    ]
    done = an_entry(run=entry.run, save={"image_id": save.image_id, "state": "saved"})
    assert plan(order, "spec", [stopped], done) == []


def test_the_reason_of_an_end_is_what_came_first() -> None:
    after, before = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)
    run = a_run(ordered_at=NOW)
    assert end_reason(run, a_container(finished_at=after), "boot") == EndReason.ordered
    assert end_reason(run, a_container(finished_at=before), "boot") == EndReason.shutdown
    assert end_reason(a_run(), a_container(oom_killed=True), "boot") == EndReason.oom
    assert end_reason(a_run(), a_container(exit_code=137), "boot") == EndReason.killed
    assert end_reason(a_run(), a_container(), "another") == EndReason.host_down


def test_facts_of_an_earlier_start_never_go_under_a_later_ones_name() -> None:
    entry = an_entry(token=SECOND, run=a_run(began="t1", started_at=NOW, finished_at=NOW))
    seen = observe(an_order(start_token=SECOND), entry, a_container(started_raw="t1"), None)
    assert (seen.state, seen.started_at, seen.finished_at) == (ObservedState.creating, None, None)


class World:
    """A toy engine and journal: counts starts per token, checks that disks are written once."""

    def __init__(self) -> None:
        self.containers: dict[str, ContainerFact] = {}
        self.entry: Entry | None = None
        self.starts: dict[UUID, int] = {}
        self.made = 0

    def step(self, order: DesiredInstance, spec: str, crash_after: int) -> bool:
        """One pass that dies after so many acts; True when there was nothing to do."""
        entry = (self.entry or an_entry()).model_copy(
            update={"token": order.start_token, "generation": order.generation}
        )
        current = current_of(list(self.containers.values()))
        self.entry = settle(entry, current, boot_id="boot", now=NOW)
        actions = plan(order, spec, list(self.containers.values()), self.entry)
        for number, action in enumerate(actions):
            if number == crash_after:
                return False
            self.act(action, order, spec, is_last=number + 1 == crash_after)
        return not actions

    def act(self, action: Action, order: DesiredInstance, spec: str, *, is_last: bool) -> None:
        assert self.entry is not None
        match action:
            case Create(disk):
                self.made += 1
                if not self.containers:
                    self._journal_run(order, NEVER_STARTED)
                self.containers[f"n{self.made}"] = a_container(
                    id_=f"n{self.made}", spec=spec, disk=disk, token=order.start_token
                )
            case Start(container, before):
                id_ = container or f"n{self.made}"
                run = self.entry.run
                if run is None or run.token != order.start_token or run.began:
                    self._journal_run(order, before or NEVER_STARTED)
                if is_last:
                    return  # died between journal and engine
                assert not any(c.running for c in self.containers.values())
                self.starts[order.start_token] = self.starts.get(order.start_token, 0) + 1
                started = f"t{sum(self.starts.values())}"
                self.containers[id_] = replace(
                    self.containers[id_], running=True, started_raw=started
                )
            case AwaitReady():
                if self.entry.run is not None:
                    run = self.entry.run.model_copy(update={"started_at": NOW})
                    self.entry = self.entry.model_copy(update={"run": run})
            case Stop(container):
                self.containers[container] = replace(
                    self.containers[container], running=False, finished_at=NOW
                )
            case Remove(container):
                assert len(self.containers) > 1
                del self.containers[container]
            case Adopt() | Erase() | Save() | Restore():
                raise AssertionError(action)
            case Commit() | Untag():
                pass

    def _journal_run(self, order: DesiredInstance, before: str) -> None:
        assert self.entry is not None
        run = a_run(token=order.start_token, before=before)
        self.entry = self.entry.model_copy(update={"run": run})

    def end_by_itself(self) -> None:
        for id_, container in self.containers.items():
            self.containers[id_] = replace(container, running=False, finished_at=NOW)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["start", "respec", "stop", "end", "again"]),
        st.integers(min_value=0, max_value=7),
    ),
    max_size=25,
)


@given(MOVES)
def test_under_any_crash_a_token_starts_at_most_once_and_it_converges(
    moves: list[tuple[str, int]],
) -> None:
    world, order, spec, ended = World(), an_order(), "s0", False
    for number, (move, crash_after) in enumerate(moves):
        generation = order.generation + 1
        if move in ("start", "respec"):
            token = UUID(int=100 + number)
            order = an_order(start_token=token, generation=generation)
            spec = f"s{number}" if move == "respec" else spec
            ended = False
        elif move == "stop":
            order = an_order(start_token=order.start_token, generation=generation, want="stopped")
        elif move == "end":
            ended = ended or any(c.running for c in world.containers.values())
            world.end_by_itself()
        world.step(order, spec, crash_after)
    for _ in range(10):
        if world.step(order, spec, 99):
            break
    else:
        raise AssertionError("did not converge")
    assert all(count == 1 for count in world.starts.values())
    assert len(world.containers) <= 1
    is_running = any(c.running for c in world.containers.values())
    if order.want == "stopped":
        assert not is_running


def test_before_the_first_order_after_a_restart_what_never_ran_is_not_reported_as_stopped() -> None:
    journaled = an_entry(run=a_run())
    assert observe(None, journaled, a_container(), None).state is ObservedState.creating
    by_label = an_entry()
    assert observe(None, by_label, a_container(), None).state is ObservedState.creating
    again = an_entry(token=SECOND, run=a_run(began="t1", finished_at=NOW))
    ended = a_container(started_raw="t1")
    assert observe(None, again, ended, None).state is ObservedState.creating
    over = an_entry(run=a_run(began="t1", finished_at=NOW))
    assert observe(None, over, ended, None).state is ObservedState.stopped
    assert observe(None, by_label, ended, None).state is ObservedState.stopped


def test_of_what_ended_while_the_journal_was_lost_the_engine_says_when() -> None:
    by_label, ended = an_entry(), a_container(started_raw="t1", finished_at=NOW)
    assert observe(None, by_label, ended, None).finished_at == NOW
    of_another_start = an_entry(token=SECOND)
    assert observe(None, of_another_start, ended, None).finished_at is None
