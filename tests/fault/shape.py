"""The topology of whichever shape a test was given."""

from tests.e2e.platform import EmbeddedPlatform, RunningPlatform
from tests.e2e.split import SplitPlatform
from tests.fault.split.topology import Split
from tests.fault.topology import Embedded, Topology


def topology_of(platform: RunningPlatform) -> Topology:
    """Raises TypeError for a third shape."""
    match platform:
        case EmbeddedPlatform():
            return Embedded(platform)
        case SplitPlatform():
            return Split(platform)
    raise TypeError(f"{platform!r}")
