"""Who has a volume, how much of it is used, and the promise of room to an upload."""

import asyncio
from pathlib import Path
from uuid import UUID

import structlog

from services.storage import repository
from services.storage.errors import InsufficientQuota
from services.storage.models import VolumeRow
from services.storage.volume import Usage, Volume
from shared.database import Database

log = structlog.get_logger(__name__)

STEP_BYTES = 16 << 20


class Volumes:
    """root: holds `volumes/<account id>`. quota: of a new volume."""

    def __init__(self, database: Database, root: Path, quota: Usage) -> None:
        self.database = database
        self._root = root
        self._quota = quota

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
        usage = await asyncio.to_thread(self.of(account_id).measure)
        async with self.database.transaction() as session:
            await repository.record_count(session, account_id, usage)

    async def count_all(self) -> None:
        async with self.database.transaction() as session:
            accounts = await repository.account_ids(session)
        for account_id in accounts:
            try:
                await self.count(account_id)
            except OSError as error:
                log.warning("volume_not_counted", account_id=str(account_id), error=repr(error))

    async def set_quota(self, account_id: UUID, quota_bytes: int) -> VolumeRow:
        await self.create(account_id)
        async with self.database.transaction() as session:
            await repository.set_quota(session, account_id, quota_bytes)
        return await self.usage(account_id)

    async def forget_uploads(self) -> None:
        """At the start: the uploads of an earlier process died with it."""
        async with self.database.transaction() as session:
            await repository.forget_reservations(session)
            accounts = await repository.account_ids(session)
        for account_id in accounts:
            await asyncio.to_thread(self.of(account_id).forget_uploads)


class Reservation:
    """Room for one upload; grows in steps ahead of what is written, and is settled once."""

    def __init__(self, volumes: Volumes, account_id: UUID) -> None:
        self._volumes = volumes
        self._account_id = account_id
        self._held = 0

    async def cover(self, size_bytes: int, *, exactly: bool = False) -> None:
        """Raises InsufficientQuota."""
        missing = size_bytes - self._held
        if missing <= 0 and not exactly:
            return
        async with self._volumes.database.transaction() as session:
            for asked in (missing,) if exactly else (max(missing, STEP_BYTES), missing):
                if await repository.reserve(session, self._account_id, asked):
                    self._held += asked
                    return
            row = await repository.load(session, self._account_id)
        raise InsufficientQuota(
            field="path",
            used_bytes=row.used_bytes + row.reserved_bytes,
            quota_bytes=row.quota_bytes,
        )

    async def settle(self, *, used_bytes: int = 0, used_files: int = 0) -> None:
        async with self._volumes.database.transaction() as session:
            await repository.settle(
                session,
                self._account_id,
                reserved=self._held,
                used_bytes=used_bytes,
                used_files=used_files,
            )
        self._held = 0
