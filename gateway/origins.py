"""Which host serves what, and which pages may act on an instance.

Content of tenants runs in browsers. On the platform's own host it would share the console's origin;
`apps_url` moves it to hosts that serve nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

INSTANCE = "{instance}"
_DEFAULT_PORT = {"http": ":80", "https": ":443"}
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_apps_url(url: str) -> str:
    """The origin without a slash at its end. Raises ValueError for what is no origin."""
    if not url:
        return ""
    parts = urlsplit(url.rstrip("/"))
    plain = parts.netloc.replace(INSTANCE, "instance", 1)
    if parts.scheme not in _DEFAULT_PORT or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", plain):
        raise ValueError("apps_url: http(s)://host[:port], nothing behind it")
    if parts.path or parts.query or parts.fragment:
        raise ValueError("apps_url: nothing may follow the host")
    if INSTANCE in parts.netloc and not parts.netloc.startswith(f"{INSTANCE}."):
        raise ValueError(f"apps_url: {INSTANCE} is its first label or not there")
    return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class Ask:
    """Of a request, what tells where it comes from. host, origin: as sent; "" when not sent."""

    method: str
    scheme: Literal["http", "https"]
    host: str
    origin: str
    site: str
    mode: str
    is_socket: bool

    @classmethod
    def of(cls, kind: str, method: str, scheme: str, headers: Mapping[bytes, bytes]) -> "Ask":
        def said(name: bytes) -> str:
            return headers.get(name, b"").decode("latin-1").strip().lower()

        return cls(
            method=method,
            scheme="https" if scheme in ("https", "wss") else "http",
            host=said(b"host"),
            origin=said(b"origin"),
            site=said(b"sec-fetch-site"),
            mode=said(b"sec-fetch-mode"),
            is_socket=kind == "websocket",
        )


class Origins:
    def __init__(self, apps_url: str) -> None:
        """apps_url: as `check_apps_url` leaves it."""
        self._url = apps_url
        scheme, _, netloc = apps_url.partition("://")
        host = re.escape(_without_default_port(netloc.lower(), scheme))
        self._apps_host = re.compile(host.replace(re.escape(INSTANCE), _UUID))

    @property
    def apart(self) -> bool:
        return bool(self._url)

    def of_apps(self, instance_id: UUID) -> str:
        """The origin to put before a path of this instance; "" on the gateway's own host."""
        return self._url.replace(INSTANCE, str(instance_id))

    def is_for_apps(self, ask: Ask) -> bool:
        """Has this host a right to serve apps, and nothing else?"""
        if not self.apart:
            return False
        host = _without_default_port(ask.host, self._url.partition(":")[0])
        return self._apps_host.fullmatch(host) is not None

    def serves(self, ask: Ask, instance_id: UUID) -> bool:
        """Whether this very instance may be served on the host that was asked."""
        if not self.apart:
            return True
        scheme, _, netloc = self.of_apps(instance_id).partition("://")
        return _without_default_port(ask.host, scheme) == _without_default_port(netloc, scheme)

    def is_secure(self, ask: Ask) -> bool:
        return ask.scheme == "https" or self._url.startswith("https:")

    def is_foreign(self, ask: Ask) -> bool:
        """Another origin's page is behind it: a browser says so in headers no script can set.

        The app itself cannot see it: the token that the gateway adds makes it skip its own check.
        """
        netloc = _netloc(ask.origin)
        same = bool(netloc) and netloc == _without_default_port(ask.host, _scheme(ask.origin))
        if ask.is_socket:
            return not same
        if ask.method not in _SAFE_METHODS:
            return not same if ask.origin else ask.site in ("cross-site", "same-site")
        return ask.site in ("cross-site", "same-site") and ask.mode != "navigate"

    def is_lured(self, ask: Ask) -> bool:
        """Another site's link would open an instance here, where its content meets the console."""
        return not self.apart and ask.site in ("cross-site", "same-site")


def _scheme(origin: str) -> str:
    return origin.partition("://")[0]


def _netloc(origin: str) -> str:
    scheme, _, netloc = origin.partition("://")
    return _without_default_port(netloc, scheme) if scheme in _DEFAULT_PORT else ""


def _without_default_port(netloc: str, scheme: str) -> str:
    return netloc.removesuffix(_DEFAULT_PORT.get(scheme, ":"))
