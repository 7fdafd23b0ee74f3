"""What a list of images is narrowed by."""

from dataclasses import dataclass
from enum import StrEnum

from services.registry.domain.states import State


class Tab(StrEnum):
    system = "system"
    mine = "mine"


@dataclass(frozen=True, slots=True)
class Filters:
    """tab: both where None. name: a part of it. python, cuda: `3` finds 3.11 too, `3.1` does not.
    An empty or missing value narrows nothing."""

    tab: Tab | None = None
    name: str | None = None
    framework: str | None = None
    python: str | None = None
    cuda: str | None = None
    status: State | None = None
