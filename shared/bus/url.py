"""From a URL to a bus. `memory://NAME` is the same bus for everyone in this process; each call
with `amqp://…` or `amqps://…` is a client of its own."""

from shared.bus.amqp import AmqpBus
from shared.bus.memory import MemoryBus
from shared.bus.protocol import Bus

_in_this_process: dict[str, MemoryBus] = {}


def memory_bus(url: str) -> MemoryBus:
    """For the one who composes a process. Raises ValueError for another scheme."""
    scheme, _, name = url.partition("://")
    if scheme != "memory":
        raise ValueError(f"{url!r} is not a bus inside this process")
    return _in_this_process.setdefault(name, MemoryBus())


async def leave_bus(bus: Bus) -> None:
    """Close what `open_bus` opened for the caller alone; the bus inside this process is everyone's
    and ends with whoever composed it."""
    if not isinstance(bus, MemoryBus):
        await bus.close()


def open_bus(url: str, management_url: str = "") -> Bus:
    """management_url: of the broker, where there is one. Raises ValueError for a scheme that no
    implementation serves."""
    if url.startswith("memory://"):
        return memory_bus(url)
    scheme, separator, _ = url.partition("://")
    if separator and scheme in ("amqp", "amqps"):
        return AmqpBus(url, management_url)
    # Not the URL itself: it may hold a password.
    raise ValueError("bus_url: use memory://NAME, amqp://LOGIN:PASSWORD@HOST/VHOST or amqps://…")
