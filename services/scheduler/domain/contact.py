"""When is a silent node lost, and when is it rather we who do not hear?

Times of this process are monotonic seconds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ear:
    """since: from then on everything said would have been heard here. looked: the last look."""

    since: float
    looked: float

    def look(self, now: float, *, bus_alive: bool, pause_s: float) -> "Ear":
        """A bus that does not answer, or a pause in which this process did not run, begins anew."""
        deaf = not bus_alive or now - self.looked > pause_s
        return Ear(since=now if deaf else self.since, looked=now)

    def has_listened(self, now: float, for_s: float) -> bool:
        return now - self.since >= for_s


@dataclass(frozen=True, slots=True)
class MassLoss:
    """share: of at least `least` nodes, so many silent at once are rather our own fault."""

    share: float
    least: int

    def suspects(self, heard: int, quiet: int) -> bool:
        """heard: nodes that spoke in the time that counts. quiet: those of them silent now."""
        return heard >= self.least and quiet > self.share * heard
