"""What routes are given."""

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from services.auth.authentication import Authenticator
from services.auth.login import require_live
from services.auth.passwords import Passwords
from services.auth.revoking import Revoking
from services.auth.settings import AuthSettings
from services.auth.signing import SigningKey
from services.auth.tailing import Tails
from services.auth.throttle import Limit, Throttle
from shared.app import Session
from shared.database import Database
from shared.policy import Caller
from shared.tokens import Principal


@dataclass(frozen=True, slots=True)
class Parts:
    """What this auth is made of; `app.state.parts`. settle_subscribers: set when the broker has
    something to learn."""

    settings: AuthSettings
    database: Database
    key: SigningKey
    passwords: Passwords
    throttle: Throttle
    authenticator: Authenticator
    revoking: Revoking
    registrations: Limit
    tails: Tails
    settle_subscribers: asyncio.Event


def put_parts(app: FastAPI, parts: Parts) -> None:
    app.state.parts = parts


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def _address(request: Request) -> str | None:
    """The client's, as the gateway wrote it: the last entry of X-Forwarded-For. Earlier entries
    are the client's own words. Behind a Unix socket there is no other source."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    peer = request.client.host if request.client else ""
    for candidate in (forwarded, peer):
        try:
            return str(ip_address(candidate))
        except ValueError:
            continue
    return None


def _user_agent(request: Request) -> str:
    given = request.headers.get("user-agent", "")
    return "".join(c for c in given if c.isprintable())[:200]


async def _live_caller(caller: Caller, session: Session) -> Principal:
    await require_live(session, caller)
    return caller


PartsDep = Annotated[Parts, Depends(_parts)]
ClientAddress = Annotated[str | None, Depends(_address)]
UserAgent = Annotated[str, Depends(_user_agent)]
# For routes that change who may do what: the caller's session must not have ended.
LiveCaller = Annotated[Principal, Depends(_live_caller, scope="function")]
