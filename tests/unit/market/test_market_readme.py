"""The page of the room says what the table says."""

import re
from pathlib import Path

import services.market
from services.market.domain.authorisation import FINAL, TRANSITIONS

README = Path(services.market.__file__).parent / "README.md"


def test_the_diagram_is_the_table() -> None:
    drawn = set(re.findall(r"^    (\S+) --> (\S+)$", README.read_text(), re.MULTILINE))
    moves = {(s.value, t.value) for s, targets in TRANSITIONS.items() for t in targets}
    assert drawn == moves | {("[*]", "open")} | {(s.value, "[*]") for s in FINAL}
