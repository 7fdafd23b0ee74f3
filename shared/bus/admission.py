"""Who may do what at the broker: a node gets a login of its own, good for its own queues alone.

A node's login makes nothing and binds nothing, reads its own queues, and writes reports only, under
keys of its kind. The broker itself refuses a report that claims another login (`user_id`).
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

import httpx
from pydantic import JsonValue

from shared.bus.protocol import Keeping
from shared.bus.topology import (
    DEAD,
    EXCHANGES,
    REPORTS,
    VHOST,
    DeclaredQueue,
    binding_keys,
    dead_queue,
    declared,
)

WITHIN_S = 10.0
# A herd of hosts that join waits here, where it costs nothing; each of them asks about ten things.
AT_ONCE = 4
NOTHING = "^$"
# One agent needs two connections and a few channels; a stolen credential gets no more.
MOST = {"max-connections": 8, "max-channels": 64}


class BrokerAway(Exception):
    """It did not answer, or not in time; asking again is safe."""


class BrokerRefused(Exception):
    """It answered and would not: what we ask for, or our own login, is wrong."""


@dataclass(frozen=True, slots=True)
class AdmittedQueue:
    """As a `Subscription` without its handler."""

    queue: str
    patterns: tuple[str, ...]
    subject: str | None
    keeping: Keeping


class Admission(Protocol):
    async def admit(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        """Repeatable; the new password replaces the old. Raises BrokerAway, BrokerRefused."""
        ...

    async def dismiss(self, login: str, queues: Sequence[str]) -> None:
        """The login ends, with its connections, and the queues. Repeatable. Raises BrokerAway,
        BrokerRefused."""
        ...


class BrokerAdmission:
    """Over RabbitMQ's management HTTP API.

    url: `http://LOGIN:PASSWORD@HOST:15672`, a login with the tag `administrator`.
    ca_file: who vouches for the broker, where the URL is https.
    """

    def __init__(self, url: str, vhost: str = VHOST, ca_file: Path | None = None) -> None:
        trusted = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._http = httpx.AsyncClient(
            base_url=f"{url.rstrip('/')}/api", timeout=WITHIN_S, verify=trusted, trust_env=False
        )
        self._vhost = _path(vhost)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._has_exchanges = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def admit(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        async with self._turns:
            await self._make_queues(queues)
            await self._make_login(login, password, queues, may_report=may_report)

    async def _make_login(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        user, vhost = _path(login), self._vhost
        await self._ask("PUT", f"/users/{user}", {"password": password, "tags": ""})
        for limit, value in MOST.items():
            await self._ask("PUT", f"/user-limits/{user}/{limit}", {"value": value})
        topics: JsonValue = {
            "exchange": REPORTS,
            "write": r"^agent\." if may_report else NOTHING,
            "read": NOTHING,
        }
        await self._ask("PUT", f"/topic-permissions/{vhost}/{user}", topics)
        # Last: until then the login can do nothing at all.
        rights: JsonValue = {
            "configure": NOTHING,
            "write": _exactly([REPORTS] if may_report else []),
            "read": _exactly([queue.queue for queue in queues]),
        }
        await self._ask("PUT", f"/permissions/{vhost}/{user}", rights)

    async def dismiss(self, login: str, queues: Sequence[str]) -> None:
        await self._ask("DELETE", f"/users/{_path(login)}")
        await self._ask("DELETE", f"/connections/username/{_path(login)}")
        for queue in queues:
            await self._ask("DELETE", f"/queues/{self._vhost}/{_path(queue)}")

    async def _make_queues(self, queues: Sequence[AdmittedQueue]) -> None:
        if self._has_exchanges:
            try:
                for queue in queues:
                    await self._make_queue(queue)
            except BrokerRefused:
                # It may have lost them since.
                self._has_exchanges = False
            else:
                return
        await self._make_exchanges()
        for queue in queues:
            await self._make_queue(queue)
        self._has_exchanges = True

    async def _make_exchanges(self) -> None:
        for name in EXCHANGES:
            path = f"/exchanges/{self._vhost}/{_path(name)}"
            await self._ask("PUT", path, {"type": "topic", "durable": True})

    async def _make_queue(self, wanted: AdmittedQueue) -> None:
        await self._declare(declared(wanted.queue, wanted.keeping))
        if wanted.keeping is Keeping.everything:
            await self._declare(dead_queue(wanted.queue))
            await self._bind(DEAD, dead_queue(wanted.queue).name, wanted.queue)
        for exchange, key in binding_keys(wanted.patterns, wanted.subject):
            await self._bind(exchange, wanted.queue, key)

    async def _declare(self, queue: DeclaredQueue) -> None:
        arguments: dict[str, JsonValue] = dict(queue.arguments)
        path = f"/queues/{self._vhost}/{_path(queue.name)}"
        await self._ask("PUT", path, {"durable": queue.durable, "arguments": arguments})

    async def _bind(self, exchange: str, queue: str, key: str) -> None:
        path = f"/bindings/{self._vhost}/e/{_path(exchange)}/q/{_path(queue)}"
        await self._ask("POST", path, {"routing_key": key})

    async def _ask(self, method: str, path: str, body: JsonValue = None) -> None:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise BrokerAway(repr(error)) from error
        if answer.status_code >= 500:
            raise BrokerAway(f"{method} {path}: {answer.status_code}")
        if method == "DELETE" and answer.status_code == 404:
            return
        if answer.is_error:
            raise BrokerRefused(f"{method} {path}: {answer.status_code} {answer.text[:200]}")


@dataclass(slots=True)
class FakeAdmission:
    """Remembers. fails: raised by the next calls, while it is set."""

    passwords: dict[str, str] = field(default_factory=dict)
    queues: dict[str, AdmittedQueue] = field(default_factory=dict)
    reporters: set[str] = field(default_factory=set)
    dismissed: list[str] = field(default_factory=list)
    fails: BrokerAway | BrokerRefused | None = None

    async def admit(
        self, login: str, password: str, queues: Sequence[AdmittedQueue], *, may_report: bool
    ) -> None:
        if self.fails is not None:
            raise self.fails
        self.passwords[login] = password
        self.queues |= {queue.queue: queue for queue in queues}
        (self.reporters.add if may_report else self.reporters.discard)(login)

    async def dismiss(self, login: str, queues: Sequence[str]) -> None:
        if self.fails is not None:
            raise self.fails
        self.passwords.pop(login, None)
        self.reporters.discard(login)
        for queue in queues:
            self.queues.pop(queue, None)
        self.dismissed.append(login)


def _path(part: str) -> str:
    return quote(part, safe="")


def _exactly(names: Sequence[str]) -> str:
    return f"^({'|'.join(re.escape(name) for name in names)})$" if names else NOTHING
