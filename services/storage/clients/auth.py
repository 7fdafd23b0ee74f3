"""Auth's word on who stands at a door that takes keys and passwords itself."""

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import httpx
from pydantic import BaseModel

from shared.errors import Unavailable
from shared.http import RemoteRefusal, ServiceToken, call
from shared.tokens import AccountStatus

# What auth answers of the person: unknown, wrong, disabled, or a shape that nobody has.
_ABOUT_THE_PERSON = (401, 403, 404, 422)


class KnownAccount(BaseModel):
    """ssh_keys: lines `type base64 comment`; none where only a password was checked."""

    account_id: UUID
    username: str
    status: AccountStatus
    ssh_keys: list[str] = []

    @property
    def is_active(self) -> bool:
        return self.status is AccountStatus.active


class AuthClient(Protocol):
    async def find(self, username: str) -> KnownAccount | None:
        """None where there is no such account. Raises Unavailable."""
        ...

    async def check_password(self, username: str, password: str) -> KnownAccount | None:
        """None where auth refuses, for whatever reason. Raises Unavailable, also when too many
        tried."""
        ...


class HttpAuth:
    def __init__(self, http: httpx.AsyncClient, token: ServiceToken) -> None:
        self._http = http
        self._token = token

    async def find(self, username: str) -> KnownAccount | None:
        path = f"/internal/accounts/by-name/{username}"
        try:
            response = await call(self._http, "GET", path, token=await self._token.get())
        except RemoteRefusal as refusal:
            _raise_unless_about_the_person(refusal)
            return None
        return KnownAccount.model_validate(response.json())

    async def check_password(self, username: str, password: str) -> KnownAccount | None:
        body = {"username": username, "password": password}
        path = "/internal/password-checks"
        try:
            response = await call(
                self._http, "POST", path, token=await self._token.get(), json=body
            )
        except RemoteRefusal as refusal:
            _raise_unless_about_the_person(refusal)
            return None
        return KnownAccount.model_validate(response.json())


def _raise_unless_about_the_person(refusal: RemoteRefusal) -> None:
    if refusal.status not in _ABOUT_THE_PERSON:
        raise Unavailable from refusal


@dataclass
class FakeAuth:
    """Knows the accounts and passwords it is given; `away` makes it unavailable."""

    accounts: dict[str, KnownAccount] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    away: bool = False

    async def find(self, username: str) -> KnownAccount | None:
        if self.away:
            raise Unavailable
        return self.accounts.get(username)

    async def check_password(self, username: str, password: str) -> KnownAccount | None:
        known = await self.find(username)
        if known is None or self.passwords.get(username) != password:
            return None
        return known
