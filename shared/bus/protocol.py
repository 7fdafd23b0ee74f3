"""What every bus promises."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from shared.events.envelope import Envelope

Handler = Callable[[Envelope], Awaitable[None]]


class Undeliverable(Exception):
    """At least one queue has not taken the event; publishing it again is safe and needed."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """queue: durable name, one per consumer; copies of a service share it and divide the work.
    patterns: AMQP topic patterns (`*` one word, `#` any number).
    """

    queue: str
    patterns: tuple[str, ...]
    handler: Handler


class Bus(Protocol):
    async def publish(self, event: Envelope) -> None: ...

    async def subscribe(self, subscription: Subscription) -> None:
        """Bind and start consuming; returns when events published from now on will arrive."""
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
