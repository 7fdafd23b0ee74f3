"""The message bus: one protocol, two implementations that pass the same contract tests.

`publish` returns when every queue bound to the event's type has it for good; it raises
`Undeliverable` otherwise, and the caller (the outbox relay) tries again. A subscription's handler
returning means done; raising means deliver again.
"""

from shared.bus.memory import MemoryBus
from shared.bus.protocol import Bus, Handler, Keeping, Subscription, Undeliverable, matches
from shared.bus.url import memory_bus, open_bus

__all__ = [
    "Bus",
    "Handler",
    "Keeping",
    "MemoryBus",
    "Subscription",
    "Undeliverable",
    "matches",
    "memory_bus",
    "open_bus",
]
