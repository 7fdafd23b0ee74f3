"""The life of an instance, read off its table."""

from itertools import product
from pathlib import Path

import pytest

from services.scheduler.domain.states import (
    MOVES,
    TERMINAL,
    TRANSITIONS,
    IllegalTransition,
    Move,
    State,
    diagram,
    may_move,
    require_move,
    want_of,
)

README = Path(__file__).parents[3] / "services" / "scheduler" / "README.md"


@pytest.mark.parametrize(("source", "target"), list(product(State, State)))
def test_a_move_that_is_not_listed_is_an_error_naming_both_states(
    source: State, target: State
) -> None:
    if target in TRANSITIONS[source]:
        require_move(source, target)
        return
    with pytest.raises(IllegalTransition, match=f"{source} → {target}"):
        require_move(source, target)


def test_released_is_the_only_end_and_every_state_reaches_it() -> None:
    assert {State.released} == TERMINAL
    reaching = {State.released}
    while grown := {s for s in State if TRANSITIONS[s] & reaching} - reaching:
        reaching |= grown
    assert reaching == set(State)


def test_release_is_offered_until_it_is_asked_for_and_leads_only_there() -> None:
    for state in State:
        over = state in (State.releasing, State.released)
        assert (Move.release in MOVES[state]) is not over
        assert may_move(state, State.releasing) is not over


def test_only_what_is_over_has_no_order_at_the_agent() -> None:
    assert [s for s in State if want_of(s, State.running) is None] == [State.released]
    assert want_of(State.saving, State.running) == "running"
    assert want_of(State.saving, State.stopped) == "stopped"
    assert want_of(State.queued, None) == "stopped"


def test_readme_shows_the_table_as_it_is() -> None:
    assert diagram() in README.read_text()
