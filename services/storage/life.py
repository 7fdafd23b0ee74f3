"""This copy of storage among others: what it promises and receives is its own while it lives.

Its id stands in a lease. Once that has run out another copy may take it for dead, return what it
promised and remove what it had half received (`clearing.py`). One that only stood still finds out,
and goes on under a new id.
"""

import asyncio
import time
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.database import Database
from shared.ids import new_id
from shared.lease import LIVES_S, RENEWALS, Lease

log = structlog.get_logger(__name__)

PREFIX = "copy:"
RENEW_S = LIVES_S / RENEWALS


class Life:
    def __init__(self, database: Database) -> None:
        self.id: UUID = new_id()
        self._database = database
        self._lease = self._named(self.id)
        self._good_until = 0.0

    def _named(self, id_: UUID) -> Lease:
        return Lease(self._database, f"{PREFIX}{id_}")

    async def begin(self) -> None:
        """Under a new id; it is on record when this returns."""
        id_ = new_id()
        lease = self._named(id_)
        asked_at = time.monotonic()
        await lease.acquire()
        self.id, self._lease = id_, lease
        self._good_until = asked_at + LIVES_S

    async def keep(self) -> None:
        """One renewal; begins anew where this copy was taken for dead, or may have been. Raises
        as the database does."""
        asked_at, old = time.monotonic(), self.id
        try:
            async with asyncio.timeout(LIVES_S):
                is_ours = await self._lease.renew()
        except (SQLAlchemyError, OSError):
            if time.monotonic() < self._good_until:
                raise
            is_ours = False
        if is_ours:
            self._good_until = asked_at + LIVES_S
            return
        await self.begin()
        log.warning("copy_taken_for_dead", copy_id=str(old))

    async def end(self) -> None:
        await self._lease.release()
