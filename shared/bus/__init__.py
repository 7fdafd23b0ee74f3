"""The message bus: one protocol, two implementations that pass the same contract tests.

`publish` returns when every queue that wants the event has it for good; it raises `Undeliverable`
otherwise, and the caller (the outbox relay) tries again. A subscription's handler returning means
done; raising means deliver again. So handlers are safe to repeat (`shared.inbox`).

`memory.py` is the bus inside one process. `amqp.py` is the one on RabbitMQ: `topology.py` names all
that stands in the broker and says what is noticed when a part of it is missing, `broker/` holds the
parts, `admission.py` gives a node its login and its queues.
"""

from shared.bus.amqp import AmqpBus
from shared.bus.memory import MemoryBus
from shared.bus.protocol import Bus, Handler, Keeping, Subscription, Undeliverable, matches
from shared.bus.url import leave_bus, memory_bus, open_bus

__all__ = [
    "AmqpBus",
    "Bus",
    "Handler",
    "Keeping",
    "MemoryBus",
    "Subscription",
    "Undeliverable",
    "leave_bus",
    "matches",
    "memory_bus",
    "open_bus",
]
