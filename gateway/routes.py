"""Which service answers what. What is not in this table does not exist outside."""

from collections.abc import Mapping
from urllib.parse import unquote

API = "/api/v1/"

SERVICE_OF: Mapping[str, str] = {
    "accounts": "auth",
    "sessions": "auth",
    "ssh-keys": "auth",
    "audit": "auth",
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
}

# Bodies that are files, streamed whatever their size.
STREAMED_BODIES = frozenset({("PUT", "/api/v1/files/content")})


def service_for(raw_path: str) -> str | None:
    """raw_path: as sent, still percent-encoded. None for what nobody serves, and for every path
    that two readers could understand differently."""
    path = unquote(raw_path)
    parts = path.split("/")
    if not path.startswith(API) or "%" in path or "\\" in path or "\0" in path:
        return None
    if any(part in (".", "..") for part in parts) or "" in parts[1:-1]:
        return None
    return SERVICE_OF.get(parts[3])
