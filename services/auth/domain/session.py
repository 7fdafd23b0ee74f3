"""Refresh tokens: how long they live, what follows each, and when one was stolen."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SESSION_LIVES = timedelta(days=30)
GRACE = timedelta(seconds=10)


class EndReason(StrEnum):
    logout = "logout"
    password_changed = "password_changed"  # noqa: S105 - a reason, not a password
    account_disabled = "account_disabled"
    token_reused = "token_reused"  # noqa: S105 - a reason, not a token


class Verdict(StrEnum):
    """rotate: mark it used, admit its successor. repeat: the successor is out already, say it
    again. reused: someone has a copy. refuse: it is over."""

    rotate = "rotate"
    repeat = "repeat"
    reused = "reused"
    refuse = "refuse"


@dataclass(frozen=True, slots=True)
class PresentedToken:
    used_at: datetime | None
    session_ended_at: datetime | None
    session_expires_at: datetime


def judge(token: PresentedToken, now: datetime) -> Verdict:
    """What an existing refresh token earns at this moment."""
    if token.session_ended_at is not None or now >= token.session_expires_at:
        return Verdict.refuse
    if token.used_at is None:
        return Verdict.rotate
    return Verdict.repeat if now - token.used_at <= GRACE else Verdict.reused


def successor_of(token: str, key: bytes) -> str:
    """The one token that may follow this one; computable only with the server's key, so that it
    can be repeated in the grace period and need not be stored."""
    return hmac.new(key, token.encode(), hashlib.sha256).hexdigest()


def fingerprint_of(token: str) -> bytes:
    """What the database keeps. The token has 256 random bits, so a plain hash hides it."""
    return hashlib.sha256(token.encode()).digest()
