"""What a refresh token earns, by its age and use."""

from datetime import UTC, datetime, timedelta

import pytest

from services.auth.domain.session import (
    GRACE,
    PresentedToken,
    Verdict,
    fingerprint_of,
    judge,
    successor_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("used_at", "ended_at", "expires_at", "verdict"),
    [
        (None, None, LATER, Verdict.rotate),
        (NOW - GRACE, None, LATER, Verdict.repeat),
        (NOW - GRACE - INSTANT, None, LATER, Verdict.reused),
        (None, NOW, LATER, Verdict.refuse),
        (NOW, NOW, LATER, Verdict.refuse),
        (None, None, NOW, Verdict.refuse),
        (NOW - GRACE - INSTANT, None, NOW, Verdict.refuse),
    ],
)
def test_a_token_is_judged_by_its_use_and_its_session(
    used_at: datetime | None, ended_at: datetime | None, expires_at: datetime, verdict: Verdict
) -> None:
    assert judge(PresentedToken(used_at, ended_at, expires_at), NOW) is verdict


def test_a_successor_is_the_same_each_time_and_unknown_without_the_key() -> None:
    assert successor_of("token", b"key") == successor_of("token", b"key")
    assert successor_of("token", b"key") != successor_of("token", b"other")
    assert successor_of("token", b"key") != successor_of("other", b"key")
    assert fingerprint_of("token") != b"token"
