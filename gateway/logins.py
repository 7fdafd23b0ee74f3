"""Whether the login with which an app was opened still goes on.

An app stays open far longer than an access token lives, and longer than an ended session is
remembered by those who check tokens. So auth is asked about each login now and then, and what ends
between two questions is known from the revocations, a second or two later.
"""

import time
from uuid import UUID

import httpx
import structlog

from shared.errors import DomainError
from shared.http import ServiceToken, call
from shared.revocation import Revocations

log = structlog.get_logger(__name__)

# Well within what the revocations remember.
ASK_AGAIN_S = 600.0
# While auth is away nobody is asked again at once.
PAUSE_S = 5.0
MOST_KNOWN = 16384


class Logins:
    def __init__(self, ended: Revocations, auth: httpx.AsyncClient, token: ServiceToken) -> None:
        """token: the gateway's own."""
        self._ended = ended
        self._auth = auth
        self._token = token
        self._good_until: dict[UUID, float] = {}

    def has_ended(self, session_id: UUID | None) -> bool:
        """As far as is known here; asks nobody."""
        return session_id in self._ended

    async def goes_on(self, session_id: UUID | None) -> bool:
        """With auth away: unless it is known to have ended. None: of no login."""
        if session_id is None:
            return True
        if session_id in self._ended:
            return False
        if time.monotonic() < self._good_until.get(session_id, 0.0):
            return True
        try:
            is_live, lasts_s = await self._ask(session_id), ASK_AGAIN_S
        except (DomainError, ValueError, KeyError) as away:
            log.info("login_not_checked", error=repr(away))
            is_live, lasts_s = True, PAUSE_S
        if is_live:
            if len(self._good_until) >= MOST_KNOWN:
                self._good_until.clear()
            self._good_until[session_id] = time.monotonic() + lasts_s
        return is_live

    async def _ask(self, session_id: UUID) -> bool:
        """Raises DomainError."""
        path = f"/internal/sessions/{session_id}/live"
        answer = await call(self._auth, "GET", path, token=await self._token.get())
        return answer.json()["live"] is True
