"""Which service answers what. What is not in this table does not exist outside."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote
from uuid import UUID

API = "/api/v1/"
APPS = "/apps/"

OURS = "gateway"

SERVICE_OF: Mapping[str, str] = {
    "accounts": "auth",
    "sessions": "auth",
    "ssh-keys": "auth",
    "audit": "auth",
    "events": "auth",
    "files": "storage",
    "storage": "storage",
    "images": "registry",
    "offers": "market",
    "market": "market",
    "wallet": "market",
    "wallets": "market",
    "bills": "market",
    "prices": "market",
    "instances": "scheduler",
    "nodes": "scheduler",
    "health": OURS,
}

# What the gateway answers itself, some of it although its first word names a service.
OWN_CALLS = re.compile(r"/api/v1/(?:health|instances/[^/]+/apps/[^/]+)")

# What every service answers of itself: the word after these names it.
ANSWERED_BY_EACH = (
    "/api/v1/dead-letters/",
    "/api/v1/events/stats/",
    "/api/v1/events/retell/",
)

# Bodies that are files, streamed whatever their size.
STREAMED_BODIES = frozenset({("PUT", "/api/v1/files/content")})

_APP_PATH = re.compile(
    r"/apps/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/(.*)", re.DOTALL
)


def service_for(raw_path: str) -> str | None:
    """raw_path: as sent, still percent-encoded. None for what nobody serves, and for every path
    that two readers could understand differently."""
    path = unquote(raw_path)
    parts = path.split("/")
    if not path.startswith(API) or "%" in path or "\\" in path or "\0" in path:
        return None
    if any(part in (".", "..") for part in parts) or "" in parts[1:-1]:
        return None
    for beginning in ANSWERED_BY_EACH:
        if path.startswith(beginning):
            named = path.removeprefix(beginning).partition("/")[0]
            return named if named != OURS and named in SERVICE_OF.values() else None
    return SERVICE_OF.get(parts[3])


@dataclass(frozen=True, slots=True)
class AppPath:
    """raw: the whole path, still percent-encoded."""

    instance_id: UUID
    raw: str

    @property
    def root(self) -> str:
        """Everything of this instance lies beneath it; ends with a slash."""
        return app_root(self.instance_id)


def app_root(instance_id: UUID) -> str:
    return f"{APPS}{instance_id}/"


def app_path(raw_path: str) -> AppPath | None:
    """raw_path: as sent, still percent-encoded. None for what is no app's, and for every path
    that leaves the instance's own once a server behind us decodes it, even twice."""
    found = _APP_PATH.fullmatch(raw_path)
    if found is None or not raw_path.isascii():
        return None
    parts = found[2].split("/")
    if "" in parts[:-1] or any(_is_ambiguous(part) for part in parts):
        return None
    return AppPath(UUID(found[1]), raw_path)


def _is_ambiguous(part: str) -> bool:
    for _ in range(3):
        if part.partition(";")[0] in (".", "..") or any(sign in part for sign in "/\\\0"):
            return True
        part = unquote(part, errors="replace")
    return False
