"""What every bus promises.

An event's routing key is `<type>.<subject>`. Facts are for whoever asks; orders to agents and
their reports travel apart from them (`shared/bus/routes.py`), since an order holds secrets and an
agent must not be able to say what only a service may.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shared.events.envelope import Envelope

Handler = Callable[[Envelope], Awaitable[None]]


class Undeliverable(Exception):
    """At least one queue has not taken the event; publishing it again is safe and needed."""


class Keeping(StrEnum):
    """What a queue keeps while nobody consumes it.

    everything: each event until it is handled, through restarts of all.
    states: whole states that are told again and again: the newest few, for a short while. Whoever
    admits an agent makes its queue; anyone else's is made by its first consumer.
    lately: each event for a week, and a bounded number; then the oldest go. For programs outside:
    nobody waits for them, and what they leave is nobody's dead letter.
    nothing: it ends with its consumer.
    """

    everything = "everything"
    states = "states"
    lately = "lately"
    nothing = "nothing"


@dataclass(frozen=True, slots=True)
class Subscription:
    """queue: one name per consumer; copies of a service share it and divide the work.
    patterns: AMQP topic patterns of event types (`*` one word, `#` any number).
    subject: only events about it; None: about anything.
    """

    queue: str
    patterns: tuple[str, ...]
    handler: Handler
    subject: str | None = None
    keeping: Keeping = Keeping.everything

    def wants(self, event: Envelope) -> bool:
        if self.subject is not None and event.subject != self.subject:
            return False
        return any(matches(pattern, event.type) for pattern in self.patterns)


class Bus(Protocol):
    async def publish(self, event: Envelope) -> None:
        """Returns when every queue that wants it has it. Raises Undeliverable, within seconds."""
        ...

    async def alive(self, within_s: float) -> bool:
        """Whether a message to ourselves came back, not whether a socket is open."""
        ...

    async def subscribe(self, subscription: Subscription) -> None:
        """Bind and start consuming; returns when events published from now on will arrive. Where
        the broker is away, or an agent's queue not made yet, it returns after a few seconds all
        the same and the subscription comes to life when they are there."""
        ...

    async def unsubscribe(self, queue: str) -> None:
        """Stop consuming here; waits for the handler that is running."""
        ...

    async def close(self) -> None: ...


def matches(pattern: str, routing_key: str) -> bool:
    """AMQP 0-9-1 topic matching."""

    def match(pattern_words: list[str], key_words: list[str]) -> bool:
        if not pattern_words:
            return not key_words
        head, rest = pattern_words[0], pattern_words[1:]
        if head == "#":
            return any(match(rest, key_words[i:]) for i in range(len(key_words) + 1))
        return bool(key_words) and head in ("*", key_words[0]) and match(rest, key_words[1:])

    return match(pattern.split("."), routing_key.split("."))
