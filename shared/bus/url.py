"""From a URL to a bus. `memory://NAME` is the same bus for everyone in this process."""

from shared.bus.memory import MemoryBus
from shared.bus.protocol import Bus

_in_this_process: dict[str, MemoryBus] = {}


def open_bus(url: str) -> Bus:
    """Raises ValueError for a scheme that no implementation serves."""
    scheme, _, name = url.partition("://")
    if scheme == "memory":
        return _in_this_process.setdefault(name, MemoryBus())
    raise ValueError(f"bus_url {url!r}: use memory://NAME")
