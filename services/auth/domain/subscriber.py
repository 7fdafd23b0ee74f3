"""Outside programs that hear facts: how far the broker knows of each."""

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID


class SubscriberState(StrEnum):
    """wanted: asked for; the broker may not know it yet. standing: it may read. dismissed: to be
    taken away. gone: the broker knows it no more, and its name is free."""

    wanted = "wanted"
    standing = "standing"
    dismissed = "dismissed"
    gone = "gone"


TRANSITIONS: Mapping[SubscriberState, frozenset[SubscriberState]] = {
    SubscriberState.wanted: frozenset({SubscriberState.standing, SubscriberState.dismissed}),
    SubscriberState.standing: frozenset({SubscriberState.dismissed}),
    SubscriberState.dismissed: frozenset({SubscriberState.gone}),
    SubscriberState.gone: frozenset(),
}


def login_of(name: str) -> str:
    """Its login at the broker, and the name of its queue."""
    return f"outside.{name}"


def password_of(subscriber_id: UUID, key: bytes) -> str:
    """Computable only with the server's key, so that it need not be stored to be said to the
    broker again."""
    return hmac.new(key, subscriber_id.bytes, hashlib.sha256).hexdigest()
