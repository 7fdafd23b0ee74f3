"""The life of a node, and the rule by which the platform suspects itself."""

from itertools import product
from pathlib import Path

import pytest

from services.scheduler.domain.contact import Ear, MassLoss
from services.scheduler.domain.node_states import (
    TRANSITIONS,
    IllegalNodeMove,
    NodeState,
    node_diagram,
    require_node_move,
    shown_state,
    takes_new,
)

README = Path(__file__).parents[3] / "services" / "scheduler" / "README.md"


@pytest.mark.parametrize(("source", "target"), list(product(NodeState, NodeState)))
def test_a_move_that_is_not_listed_is_an_error_naming_both_states(
    source: NodeState, target: NodeState
) -> None:
    if target in TRANSITIONS[source]:
        return require_node_move(source, target)
    with pytest.raises(IllegalNodeMove, match=f"{source} → {target}"):
        require_node_move(source, target)
    return None


def test_a_removed_node_stays_removed_and_a_lost_one_was_silent_before() -> None:
    assert TRANSITIONS[NodeState.removed] == frozenset()
    assert [s for s in NodeState if NodeState.lost in TRANSITIONS[s]] == [NodeState.silent]


def test_a_draining_node_takes_nothing_new_and_is_shown_so_while_it_is_heard() -> None:
    assert takes_new("online", draining=False)
    assert not takes_new("online", draining=True)
    assert not takes_new("silent", draining=False)
    assert shown_state("online", draining=True) == "draining"
    assert shown_state("silent", draining=True) == "silent"


def test_readme_shows_the_table_as_it_is() -> None:
    assert node_diagram() in README.read_text()


@pytest.mark.parametrize(
    ("heard", "quiet", "suspects"),
    [(3, 3, False), (4, 2, False), (4, 3, True), (1000, 500, False), (1000, 501, True)],
)
def test_more_than_half_of_at_least_four_nodes_silent_at_once_is_our_own_fault(
    heard: int, quiet: int, *, suspects: bool
) -> None:
    assert MassLoss(share=0.5, least=4).suspects(heard, quiet) is suspects


def test_whoever_was_deaf_begins_to_listen_anew() -> None:
    ear = Ear(since=0.0, looked=0.0)
    for second in range(1, 46):
        ear = ear.look(second, bus_alive=True, pause_s=5)
    assert ear.has_listened(45, 45)
    assert not ear.look(46, bus_alive=False, pause_s=5).has_listened(46, 1)
    stood_still = ear.look(60, bus_alive=True, pause_s=5)
    assert not stood_still.has_listened(60, 1)
    assert stood_still.look(61, bus_alive=True, pause_s=5).has_listened(61, 1)
