"""The scheduler's word whether a host is one of its nodes."""

from dataclasses import dataclass, field
from typing import Protocol

import httpx

from shared.http import RemoteRefusal, ServiceToken, call


class SchedulerClient(Protocol):
    async def knows_node(self, login: str, password: str) -> bool:
        """Raises Unavailable."""
        ...


class HttpScheduler:
    def __init__(self, http: httpx.AsyncClient, token: ServiceToken) -> None:
        self._http = http
        self._token = token

    async def knows_node(self, login: str, password: str) -> bool:
        body = {"login": login, "password": password}
        token = await self._token.get()
        try:
            await call(self._http, "POST", "/internal/nodes/verify", token=token, json=body)
        except RemoteRefusal as refusal:
            if refusal.status in (401, 404, 422):
                return False
            raise
        return True


@dataclass
class FakeScheduler:
    """passwords: of each node's login. asked: every question that came here."""

    passwords: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def knows_node(self, login: str, password: str) -> bool:
        self.asked.append(login)
        return self.passwords.get(login) == password
