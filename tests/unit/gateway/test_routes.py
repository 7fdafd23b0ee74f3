"""Only what the table names is reachable, however the path is spelled."""

import pytest

from gateway.routes import service_for


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/api/v1/accounts", "auth"),
        ("/api/v1/accounts/me", "auth"),
        ("/api/v1/files/content", "storage"),
        ("/api/v1/instances/x/start", "scheduler"),
        ("/api/v1/wallet", "market"),
        ("/api/v1/images/", "registry"),
        ("/api/v1/dead-letters/market", "market"),
        ("/api/v1/dead-letters/storage/storage.sftp/x/replay", "storage"),
        ("/api/v1/events/stats/scheduler", "scheduler"),
        ("/api/v1/events/retell/market", "market"),
        ("/api/v1/events/tail", "auth"),
        ("/api/v1/events/subscribers", "auth"),
    ],
)
def test_a_public_path_goes_to_its_service(path: str, service: str) -> None:
    assert service_for(path) == service


@pytest.mark.parametrize(
    "path",
    [
        "/internal/service-tokens",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/accounts/../../internal/x",
        "/api/v1/accounts/%2e%2e/%2e%2e/internal/x",
        "/api/v1/accounts/%252e%252e/x",
        "/api/v1//accounts",
        "/api/v1/accounts//me",
        "/api/v1/accounts\\..\\internal",
        "/api/v1/accounts/%00",
        "/api/v1/./accounts",
        "/api/v1/dead-letters",
        "/api/v1/dead-letters/",
        "/api/v1/dead-letters/gateway",
        "/api/v1/events/stats/nobody/x",
        "/api/v1/events/retell/",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    assert service_for(path) is None
