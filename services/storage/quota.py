"""Who has a volume, how much of it is used, and the promise of room to an upload."""

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.storage import clearing, repository
from services.storage.entries import Usage
from services.storage.errors import InsufficientQuota, TooManyFiles
from services.storage.life import Life
from services.storage.models import VolumeRow
from services.storage.repository import Room
from services.storage.volume import Volume
from shared.database import Database
from shared.errors import Unavailable

log = structlog.get_logger(__name__)

STEP_BYTES = 16 << 20
SMALL_STEP_BYTES = 1 << 20
# Beyond any disk; larger numbers would not fit the database's columns.
LARGEST_BYTES = 1 << 50
COUNT_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Debt:
    room: Room
    used_bytes: int
    used_files: int


class Volumes:
    """root: holds `volumes/<account id>`. quota: of a new volume. life: of this copy of storage."""

    def __init__(self, database: Database, root: Path, quota: Usage, life: Life) -> None:
        self.database = database
        self.life = life
        self._root = root
        self._quota = quota
        self._counted_at: dict[UUID, float] = {}
        # One count of an account at a time: two would each keep what the other found on top.
        self._counting: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._debts: deque[_Debt] = deque()

    def of(self, account_id: UUID) -> Volume:
        return Volume(self._root / "volumes" / str(account_id))

    async def create(self, account_id: UUID) -> None:
        """Its folders and its row, unless they are there."""
        await asyncio.to_thread(self.of(account_id).prepare)
        async with self.database.transaction() as session:
            await repository.ensure(session, account_id, self._quota)

    async def usage(self, account_id: UUID) -> VolumeRow:
        """Counted now: containers write without asking us."""
        await self.count(account_id)
        async with self.database.transaction() as session:
            return await repository.load(session, account_id)

    async def count(self, account_id: UUID) -> None:
        await self.create(account_id)
        async with self._counting[account_id]:
            async with self.database.transaction() as session:
                before = await repository.load(session, account_id)
            usage = await asyncio.to_thread(self.of(account_id).measure)
            async with self.database.transaction() as session:
                await repository.record_count(session, account_id, usage, before=before)
        self._counted_at[account_id] = time.monotonic()

    async def count_again(self, account_id: UUID) -> bool:
        """Before room is refused: files may have been deleted. False where that is only just
        known, since counting a large disk costs seconds."""
        if time.monotonic() - self._counted_at.get(account_id, -COUNT_AGAIN_S) < COUNT_AGAIN_S:
            return False
        self._counted_at[account_id] = time.monotonic()
        await self.count(account_id)
        return True

    def expect_room(self, account_id: UUID) -> None:
        """Something was deleted here: the next refusal counts again first."""
        self._counted_at.pop(account_id, None)

    async def claim_file(self, account_id: UUID) -> None:
        """Room for one more file or folder. Raises TooManyFiles."""
        row = await self._claim_file(account_id)
        if row is not None and await self.count_again(account_id):
            row = await self._claim_file(account_id)
        if row is not None:
            raise TooManyFiles(field="path", quota_files=row.quota_files)

    async def _claim_file(self, account_id: UUID) -> VolumeRow | None:
        """None when claimed, else the row that says why not."""
        async with self.database.transaction() as session:
            if await repository.claim_file(session, account_id):
                return None
            return await repository.load(session, account_id)

    async def settle(self, room: Room, *, used_bytes: int = 0, used_files: int = 0) -> None:
        """A promise ends. With the database away it is remembered and ends later."""
        debt = _Debt(room, used_bytes, used_files)
        try:
            await self._pay(debt)
        except (SQLAlchemyError, OSError) as error:
            account_id = str(room.account_id)
            log.warning("reservation_not_settled", account_id=account_id, error=repr(error))
            self._debts.append(debt)

    async def _pay(self, debt: "_Debt") -> None:
        async with self.database.transaction() as session:
            await repository.settle(
                session, debt.room, used_bytes=debt.used_bytes, used_files=debt.used_files
            )

    async def pay_debts(self) -> None:
        """This copy's own."""
        while self._debts:
            await self._pay(self._debts[0])
            self._debts.popleft()

    async def count_all(self, database: Database) -> None:
        """Of all accounts, after clearing up behind dead copies. database: fails once another copy
        has taken this over."""
        async with database.transaction() as session:
            accounts = await repository.account_ids(session)
        for account_id in accounts:
            try:
                await clearing.remove_uploads(database, self.of(account_id).uploads)
                await self.count(account_id)
            except OSError as error:
                log.warning("volume_not_counted", account_id=str(account_id), error=repr(error))

    async def set_quota(self, account_id: UUID, quota_bytes: int) -> VolumeRow:
        await self.create(account_id)
        async with self.database.transaction() as session:
            await repository.set_quota(session, account_id, quota_bytes)
        return await self.usage(account_id)


class Reservation:
    """Room for one upload; grows in steps ahead of what is written, and is settled once."""

    def __init__(self, volumes: Volumes, account_id: UUID) -> None:
        self._volumes = volumes
        self._account_id = account_id
        self._copy_id = volumes.life.id
        self._held = 0

    @property
    def is_void(self) -> bool:
        """This copy was taken for dead meanwhile: the room was given back, the upload removed."""
        return self._copy_id != self._volumes.life.id

    def _room(self, size_bytes: int) -> Room:
        return Room(self._copy_id, self._account_id, size_bytes)

    async def cover(self, size_bytes: int, *, exactly: bool = False) -> None:
        """Raises InsufficientQuota, Unavailable when it is void."""
        if self.is_void:
            raise Unavailable
        missing = size_bytes - self._held
        if missing <= 0 and not exactly:
            return
        async with self._volumes.database.transaction() as session:
            for asked in (missing,) if exactly else (max(missing, STEP_BYTES), missing):
                if await repository.reserve(session, self._room(asked)):
                    self._held += asked
                    return
            row = await repository.load(session, self._account_id)
        raise InsufficientQuota(
            field="path",
            used_bytes=row.used_bytes + row.reserved_bytes,
            quota_bytes=row.quota_bytes,
        )

    async def settle(self, *, used_bytes: int = 0, used_files: int = 0) -> None:
        held, self._held = self._held, 0
        await self._volumes.settle(self._room(held), used_bytes=used_bytes, used_files=used_files)


class Growth:
    """Room for a file that grows in place, promised in steps ahead of what is written.

    What is written counts as used with the next step or at the end. Until then a count may see it
    twice, so an account may be refused a few steps before its quota, never after it.
    """

    def __init__(self, volumes: Volumes, account_id: UUID) -> None:
        self._volumes = volumes
        self._account_id = account_id
        self._copy_id = volumes.life.id
        self._written = 0
        self.ahead = 0

    def _room(self, size_bytes: int) -> Room:
        return Room(self._copy_id, self._account_id, size_bytes)

    async def cover(self, size_bytes: int) -> None:
        """So many bytes may be written now. Raises InsufficientQuota."""
        row = await self._promise(size_bytes)
        if row is not None and await self._volumes.count_again(self._account_id):
            row = await self._promise(size_bytes)
        if row is None:
            return
        raise InsufficientQuota(
            field="path",
            used_bytes=row.used_bytes + row.reserved_bytes,
            quota_bytes=row.quota_bytes,
        )

    async def _promise(self, size_bytes: int) -> VolumeRow | None:
        """None when promised, else the row that says why not."""
        if self._copy_id != self._volumes.life.id:
            # Taken for dead meanwhile: what was ahead has been given back.
            self.ahead = 0
        missing = size_bytes - self.ahead
        if missing <= 0:
            return None
        written = self._written
        async with self._volumes.database.transaction() as session:
            await repository.settle(session, self._room(written), used_bytes=written, used_files=0)
            self._copy_id = self._volumes.life.id
            promised = 0
            for asked in (max(missing, STEP_BYTES), max(missing, SMALL_STEP_BYTES), missing):
                if missing <= LARGEST_BYTES and await repository.grow(session, self._room(asked)):
                    promised = asked
                    break
            row = None if promised else await repository.load(session, self._account_id)
        self._written -= written
        self.ahead += promised
        return row

    def wrote(self, size_bytes: int) -> None:
        """Out of what was promised."""
        self.ahead -= size_bytes
        self._written += size_bytes

    async def settle(self) -> None:
        """What was promised and not written is free again."""
        written, ahead = self._written, self.ahead
        self._written = self.ahead = 0
        if written or ahead:
            await self._volumes.settle(self._room(written + ahead), used_bytes=written)
