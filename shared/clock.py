"""The one place that asks what time it is: always UTC, always aware."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)
