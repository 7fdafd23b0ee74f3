"""A file that an SFTP client has open: read and written in place, on one descriptor.

Every growth is promised by the quota before the byte is written. What was written when a transfer
breaks stays, counted, so that it can go on from there.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from services.storage.domain.path import Names
from services.storage.quota import Growth
from services.storage.refusals import refusals
from services.storage.volume import Access, Changes, apply_changes

T = TypeVar("T")

# Also the block in which asyncssh copies between handles: a shorter answer would end its copy.
READ_BYTES = 256 << 10
OFFSET_LIMIT = 1 << 62
GROW_TRIES = 16


class Run(Protocol):
    """Runs what blocks in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class OpenFile:
    """Its user is one session, which takes one request at a time."""

    def __init__(
        self, descriptor: int, names: Names, access: Access, growth: Growth, run: Run
    ) -> None:
        self._descriptor = descriptor
        self._names = names
        self._growth = growth
        self._run = run
        self._is_changed = False
        self.access = access

    async def read(self, offset: int, size: int) -> bytes:
        """Empty at the end of the file."""
        if offset >= OFFSET_LIMIT:
            return b""
        return await self._run(lambda: self._read(offset, min(size, READ_BYTES)))

    def _read(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(self._descriptor, size, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    async def write(self, offset: int, data: bytes) -> None:
        """All of it. Raises InsufficientQuota, DiskFull."""
        await self._grow(lambda: self._write(offset, data))

    async def resize(self, size: int) -> None:
        """Cut, or filled up with zeros. Raises InsufficientQuota, DiskFull."""
        await self._grow(lambda: self._resize(size))

    async def _grow(self, work: Callable[[], int]) -> None:
        """work: answers by how many bytes the file must still be allowed to grow, 0 when done.
        Asked again, since others may cut the file between the promise and the write."""
        for _ in range(GROW_TRIES):
            missing = await self._run(work)
            if missing == 0:
                return
            await self._growth.cover(missing)
        raise TimeoutError("the file changes too fast")

    def _write(self, offset: int, data: bytes) -> int:
        size = os.fstat(self._descriptor).st_size
        start = size if self.access.appends else offset
        grows = max(0, start + len(data) - size)
        if grows > self._growth.ahead:
            return grows
        self._is_changed = True
        with refusals(self._names):
            view = memoryview(data)
            while view:
                written = os.pwrite(self._descriptor, view, start)
                start += written
                view = view[written:]
        self._growth.wrote(grows)
        return 0

    def _resize(self, size: int) -> int:
        grows = max(0, size - os.fstat(self._descriptor).st_size)
        if grows > self._growth.ahead:
            return grows
        self._is_changed = True
        with refusals(self._names):
            os.ftruncate(self._descriptor, size)
        self._growth.wrote(grows)
        return 0

    async def status(self) -> os.stat_result:
        return await self._run(lambda: os.fstat(self._descriptor))

    async def change(self, changes: Changes) -> None:
        await self._run(lambda: apply_changes(self._descriptor, changes))

    async def sync(self) -> None:
        with refusals(self._names):
            await self._run(lambda: os.fsync(self._descriptor))

    async def close(self) -> None:
        """On disk when it returns. Raises DiskFull, OSError: then the last writes may be lost.
        The descriptor and the promise end either way."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            with refusals(self._names):
                await self._run(lambda: _close(descriptor, sync=self._is_changed))
        finally:
            await self._growth.settle()


def _close(descriptor: int, *, sync: bool) -> None:
    try:
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
