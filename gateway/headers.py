"""What passes in either direction, and what only the gateway may say.

To services: as sent. To apps of tenants: nothing that is the platform's. From apps of tenants:
nothing that reaches beyond the instance's own path.
"""

import re
from collections.abc import Iterable

from starlette.types import Scope

from shared import telemetry

Headers = list[tuple[str, str]]
RawHeaders = list[tuple[bytes, bytes]]

COOKIE = "chusuan_app"

# RFC 9110 §7.6.1.
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
_OURS = frozenset(
    {"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"}
    | {"x-forwarded-proto", "x-real-ip", "x-request-id"}
    | {"traceparent", "tracestate", "baggage"}
)
_NOT_FOR_APPS = frozenset({"authorization", "cookie"})
_HANDSHAKE = frozenset(
    {"sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key"}
    | {"sec-websocket-protocol", "sec-websocket-version"}
)
# They would speak for the whole origin, or for other paths of it.
_NOT_FROM_APPS = frozenset(
    {b"alt-svc", b"clear-site-data", b"expect-ct", b"nel", b"public-key-pins", b"report-to"}
    | {b"service-worker-allowed", b"set-cookie", b"strict-transport-security", b"x-request-id"}
)
# `__Host-` needs Path=/, which no app may have; the others are names of the platform.
_PLATFORM_NAMES = ("chusuan", "__host-", "__secure-chusuan")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def to_service(scope: Scope, request_id: str) -> Headers:
    headers = _passed(scope, frozenset({"host"}))
    headers.append(("x-forwarded-for", _client(scope)))
    headers.append(("x-request-id", request_id))
    if (mark := telemetry.traceparent()) is not None:
        headers.append((telemetry.HEADER, mark))
    return headers


def to_app(scope: Scope, request_id: str, token: str) -> Headers:
    """With the app's own token, Host as the client sent it, and none of the platform's secrets."""
    dropped = _NOT_FOR_APPS | (_HANDSHAKE if scope["type"] == "websocket" else frozenset())
    headers = _passed(scope, dropped)
    cookies = [f"{n}={v}" for n, v in cookies_of(scope) if not _is_platforms(n)]
    if cookies:
        headers.append(("cookie", "; ".join(cookies)))
    host = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "")
    headers += [
        ("authorization", f"token {token}"),
        ("x-forwarded-for", _client(scope)),
        ("x-forwarded-host", host),
        ("x-forwarded-proto", "https" if scope["scheme"] in ("https", "wss") else "http"),
        ("x-request-id", request_id),
    ]
    return headers


def _passed(scope: Scope, dropped: frozenset[str]) -> Headers:
    raw: Iterable[tuple[bytes, bytes]] = scope["headers"]
    named = {
        word.strip().lower()
        for key, value in raw
        if key == b"connection"
        for word in value.decode("latin-1").split(",")
    }
    dropped = _HOP_BY_HOP | _OURS | named | dropped
    return [
        (key.decode("latin-1"), value.decode("latin-1"))
        for key, value in raw
        if key.decode("latin-1") not in dropped
    ]


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def cookies_of(scope: Scope) -> list[tuple[str, str]]:
    """In the order sent; a name may come twice, for two paths."""
    pairs = []
    for key, value in scope["headers"]:
        if key == b"cookie":
            for part in value.decode("latin-1").split(";"):
                name, _, content = part.strip().partition("=")
                pairs.append((name.strip(), content.strip()))
    return pairs


def from_service(headers: RawHeaders) -> RawHeaders:
    return [
        (key.lower(), value)
        for key, value in headers
        if key.decode("latin-1").lower() not in _HOP_BY_HOP
    ]


def from_app(headers: RawHeaders, root: str, request_id: str) -> RawHeaders:
    """root: the path beneath which everything of the instance lies."""
    passed = []
    for key, value in from_service(headers):
        if _CONTROL.search(value):
            continue
        if key == b"set-cookie":
            confined = confine_cookie(value.decode("latin-1"), root)
            if confined is not None:
                passed.append((key, confined.encode("latin-1")))
        elif key == b"service-worker-allowed":
            allowed = value.decode("latin-1")
            passed.append((key, (allowed if _is_beneath(allowed, root) else root).encode()))
        elif key not in _NOT_FROM_APPS:
            passed.append((key, value))
    if not any(key == b"referrer-policy" for key, _ in passed):
        passed.append((b"referrer-policy", b"same-origin"))
    # Several policies hold together: the app's own stays, and no other site frames it.
    passed += [
        (b"content-security-policy", b"frame-ancestors 'self'"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"x-request-id", request_id.encode()),
    ]
    return passed


def confine_cookie(cookie: str, root: str) -> str | None:
    """A Set-Cookie value, sent back to this instance alone; None when its name may not be."""
    pair, *attributes = cookie.split(";")
    name, equals, _ = pair.partition("=")
    if not equals or not name.strip() or _is_platforms(name.strip()):
        return None
    path = root
    kept = []
    for attribute in attributes:
        word, _, value = attribute.strip().partition("=")
        match word.strip().lower():
            case "domain":
                continue
            case "path":
                path = value.strip() if _is_beneath(value.strip(), root) else root
            case _:
                kept.append(attribute.strip())
    return "; ".join([pair.strip(), f"Path={path}", *kept])


def _is_platforms(name: str) -> bool:
    # Without a name the value is all that is sent, and could look like any cookie.
    return not name or name.lower().startswith(_PLATFORM_NAMES)


def _is_beneath(path: str, root: str) -> bool:
    return path.startswith(root) and not any(odd in path for odd in ("..", "%", "\\", "//"))
