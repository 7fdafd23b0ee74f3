"""Reports as they come: that a node is heard, at once; what it says, as we get to it.

Those of a moment are noted in one statement: a thousand nodes say two hundred times a second what
they said before, and one by one each would hold a connection that a request needs. What says more
is looked at whole, a few at a time. Where we do not get to it soon it is passed over, for the next
one says it again: else those behind it would wait, and nodes would seem lost since we are slow.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.scheduler.repository.heartbeats import Heartbeat, note_heartbeats
from shared.clock import utc_now
from shared.database import Database
from shared.events.agent import NodeReported

MOST_TOGETHER = 200
LOOKS_AT_ONCE = 8
# More would keep heartbeats from being heard, since only so many reports are in our hands at once.
MOST_WAITING = 100
# Half a heartbeat: who waited longer would be heard too seldom.
PATIENCE_S = 2.5


@dataclass(eq=False, slots=True)
class _Waiting:
    heartbeat: Heartbeat
    noted: asyncio.Future[bool]


class Heartbeats:
    """One per process. looked_again_s: so long after a whole look another one is due."""

    def __init__(self, database: Database, looked_again_s: float) -> None:
        self._database = database
        self._looked_again = timedelta(seconds=looked_again_s)
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._lookers = 0

    async def note(self, report: NodeReported, digest: str) -> bool:
        """Its node is heard. False: it says more than the one before, or a whole look is due, or
        somebody works on the node just now. Raises what the database raises."""
        heartbeat = Heartbeat(
            node_id=report.node_id,
            boot_id=report.boot_id,
            digest=digest,
            sequence=report.sequence,
            reported_at=report.reported_at,
            looked_since=_before(report.reported_at, self._looked_again),
            disk_free_bytes=report.inventory.disk_free_bytes,
        )
        one = _Waiting(heartbeat, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await one.noted

    @asynccontextmanager
    async def look(self) -> AsyncIterator[bool]:
        """A turn to look at one whole; false where too many wait, or there was none in time."""
        if not await self._has_turn():
            yield False
            return
        try:
            yield True
        finally:
            self._looks.release()

    async def _has_turn(self) -> bool:
        if self._lookers >= MOST_WAITING:
            return False
        self._lookers += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._looks.acquire()
        except TimeoutError:
            return False
        finally:
            self._lookers -= 1
        return True

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST_TOGETHER]
                del self._waiting[:MOST_TOGETHER]
                await self._write(batch)
        finally:
            self._task = None

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        # Of two of one node the newer counts, and the other would say nothing more.
        newest: dict[UUID, Heartbeat] = {}
        for one in batch:
            known = newest.get(one.heartbeat.node_id)
            if known is None or known.sequence < one.heartbeat.sequence:
                newest[one.heartbeat.node_id] = one.heartbeat
        try:
            async with self._database.transaction() as session:
                noted = await note_heartbeats(session, list(newest.values()), utc_now())
        except BaseException as error:
            for one in batch:
                if not one.noted.done():
                    one.noted.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for one in batch:
            same = newest[one.heartbeat.node_id] is one.heartbeat
            if not one.noted.done():
                one.noted.set_result(same and one.heartbeat.node_id in noted)


def _before(moment: datetime, span: timedelta) -> datetime:
    """An agent's clock may say anything."""
    try:
        return moment - span
    except OverflowError:
        return moment
