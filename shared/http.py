"""Calls between services: over TCP or a Unix socket, as a user or as this service."""

import time
from typing import Protocol

import httpx
import structlog
from pydantic import SecretStr

from shared import telemetry
from shared.crashing import crash_points
from shared.errors import DomainError, Unavailable
from shared.text import Text

TIMEOUT = httpx.Timeout(10.0, connect=2.0)


def open_client(url: str) -> httpx.AsyncClient:
    """url: `unix:/path/to.sock` or `http://host:port`."""
    if url.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix:"))
        return httpx.AsyncClient(transport=transport, base_url="http://service", timeout=TIMEOUT)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False)


class RemoteRefusal(DomainError):
    """Another service refused with a problem; the caller sees that problem as its own."""

    def __init__(self, response: httpx.Response) -> None:
        problem = response.json()
        super().__init__(field=problem.get("field"))
        self.code = problem.get("code", "refused")  # type: ignore[misc]  # the remote's own
        self.status = response.status_code  # type: ignore[misc]
        self.title = _verbatim(problem.get("title", ""))  # type: ignore[misc]
        self.detail = _verbatim(problem.get("detail", ""))  # type: ignore[misc]


def _verbatim(words: str) -> Text:
    escaped = words.replace("{", "{{").replace("}", "}}")
    return Text(escaped, escaped)


async def call(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    token: str,
    json: object = None,
    params: dict[str, str] | None = None,
) -> httpx.Response:
    """One call. Raises RemoteRefusal for a 4xx, Unavailable for a 5xx or no answer.

    Unavailable means the outcome is unknown; callers pass ids that make a second try harmless.
    """
    context = structlog.contextvars.get_contextvars()
    headers = {"authorization": f"Bearer {token}"}
    for key, header in (("request_id", "x-request-id"), ("language", "accept-language")):
        if context.get(key):
            headers[header] = str(context[key])
    if (mark := telemetry.traceparent()) is not None:
        headers[telemetry.HEADER] = mark
    try:
        with crash_points("call", of_use=True):
            response = await http.request(method, path, json=json, params=params, headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable from error
    if response.status_code >= 500:
        raise Unavailable
    if response.status_code >= 400:
        raise RemoteRefusal(response)
    return response


class ServiceToken(Protocol):
    async def get(self) -> str:
        """A token that says: this is service NAME, acting for the platform."""
        ...


class FetchedServiceToken:
    """Asks auth for a service token and keeps it until shortly before its end."""

    def __init__(self, auth: httpx.AsyncClient, service: str, secret: SecretStr) -> None:
        self._auth = auth
        self._service = service
        self._secret = secret
        self._token = ""
        self._fresh_until = 0.0

    async def get(self) -> str:
        if time.monotonic() >= self._fresh_until:
            body = {"service": self._service, "secret": self._secret.get_secret_value()}
            try:
                response = await self._auth.post("/internal/service-tokens", json=body)
                response.raise_for_status()
            except httpx.HTTPError as error:
                raise Unavailable from error
            answer = response.json()
            self._token = answer["access_token"]
            self._fresh_until = time.monotonic() + answer["expires_in"] - 60
        return self._token
