"""This copy of storage among others: what it promises and receives is its own while it lives.

Its id stands in a lease. Once that has run out another copy may take it for dead, return what it
promised and remove what it had half received (`clearing.py`). One that only stood still finds out,
and goes on under a new id.
"""

from uuid import UUID

import structlog

from shared.database import Database
from shared.ids import new_id
from shared.lease import Lease

log = structlog.get_logger(__name__)

PREFIX = "copy:"


class Life:
    def __init__(self, database: Database) -> None:
        self.id: UUID = new_id()
        self._database = database
        self._lease = self._named(self.id)

    def _named(self, id_: UUID) -> Lease:
        return Lease(self._database, f"{PREFIX}{id_}")

    async def begin(self) -> None:
        """Under a new id; it is on record when this returns."""
        id_ = new_id()
        lease = self._named(id_)
        await lease.acquire()
        self.id, self._lease = id_, lease

    async def keep(self) -> None:
        """Returns when this copy may have been taken for dead, after it has begun anew."""
        await self._lease.keep()
        log.warning("copy_taken_for_dead", copy_id=str(self.id))
        await self.begin()

    async def end(self) -> None:
        await self._lease.release()
