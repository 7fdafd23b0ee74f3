"""Receiving a file: room first, then bytes, then its name. A failure leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from services.storage.domain.path import Names
from services.storage.entries import Entry
from services.storage.errors import AlreadyThere, NoSuchFile
from services.storage.quota import Reservation, Volumes
from services.storage.upload import Upload
from shared.errors import Unavailable

BLOCK_BYTES = 1 << 20


async def receive_file(
    volumes: Volumes,
    account_id: UUID,
    names: Names,
    body: AsyncIterator[bytes],
    *,
    declared_bytes: int | None,
    overwrite: bool,
) -> Entry:
    """body: chunks of any size; at most one block is held in memory.
    Raises AlreadyThere, InsufficientQuota, DiskFull, NoSuchFile for a missing folder, Unavailable
    when this copy stood still for so long that it was taken for dead."""
    await volumes.create(account_id)
    volume = volumes.of(account_id)
    if not overwrite:
        await _refuse_existing(volumes, account_id, names)
    reservation = Reservation(volumes, account_id)
    await reservation.cover(declared_bytes or 0, exactly=True)
    used_bytes = used_files = 0
    try:
        upload = await asyncio.to_thread(volume.new_upload, volumes.life.id)
        try:
            size = await _write(upload, body, reservation)
            if reservation.is_void:
                raise Unavailable
            entry = await asyncio.to_thread(volume.put, upload, names, overwrite=overwrite)
            used_bytes, used_files = size, 1
        finally:
            await asyncio.to_thread(upload.close)
    finally:
        await reservation.settle(used_bytes=used_bytes, used_files=used_files)
    return entry


async def _refuse_existing(volumes: Volumes, account_id: UUID, names: Names) -> None:
    """Before the bytes travel; the rename refuses again at the end."""
    try:
        entry = await asyncio.to_thread(volumes.of(account_id).entry, names)
    except NoSuchFile:
        return
    raise AlreadyThere(field="path", path=entry.path)


async def _write(upload: Upload, body: AsyncIterator[bytes], reservation: Reservation) -> int:
    size = 0
    block = bytearray()
    async for chunk in body:
        size += len(chunk)
        await reservation.cover(size)
        block += chunk
        if len(block) >= BLOCK_BYTES:
            await asyncio.to_thread(upload.write, bytes(block))
            block.clear()
    await asyncio.to_thread(upload.write, bytes(block))
    return size
