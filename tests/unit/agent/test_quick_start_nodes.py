"""The hosts that the quick start declares."""

from pathlib import Path

from agent.nodes import read_nodes

DECLARED = Path(__file__).parents[3] / "deploy" / "nodes.toml"


def test_the_quick_start_declares_a_mixed_set_marked_as_simulated() -> None:
    nodes = read_nodes(DECLARED)
    assert all(node.simulated for node in nodes)
    assert len({node.gpu_model for node in nodes}) == len(nodes) >= 3
