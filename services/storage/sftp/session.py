"""The operations of one SFTP session. Each goes through the account's `Volume`, on descriptors
beneath its root; asyncssh's own, which follow paths, are all replaced."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakSet

import asyncssh
import structlog
from asyncssh import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    SFTPAttrs,
    SFTPName,
    SFTPVFSAttrs,
)

from services.storage import repository
from services.storage.clients.auth import KnownAccount
from services.storage.domain.path import Names, join, parse_posix
from services.storage.entries import Kind, kind_of
from services.storage.quota import Growth, Volumes
from services.storage.sftp import answers
from services.storage.sftp.answers import both
from services.storage.sftp.open_file import OpenFile
from services.storage.volume import FILE_MODE, Access, Listing
from shared.errors import DomainError

log = structlog.get_logger(__name__)

T = TypeVar("T")

LISTED_AT_ONCE = 128
NOTES_LIMIT = 20
EXECUTE_BITS = 0o111


class NetDiskSession(asyncssh.SFTPServer):
    """open_limit: files and folders that may be open at once."""

    def __init__(
        self,
        channel: asyncssh.SSHServerChannel[bytes],
        *,
        account: KnownAccount,
        volumes: Volumes,
        threads: Executor,
        open_limit: int,
    ) -> None:
        super().__init__(channel)
        self._account = account
        self._volumes = volumes
        self._volume = volumes.of(account.account_id)
        self._threads = threads
        self._open_limit = open_limit
        self._files: set[OpenFile] = set()
        self._listings: WeakSet[Listing] = WeakSet()
        self._notes = 0
        self._is_over = False

    def end(self) -> None:
        """Nothing more is done for this client, not even what it has sent already."""
        self._is_over = True

    async def finish(self) -> None:
        """Close what the client left open: what was written stays, promises are returned."""
        self._is_over = True
        for file in list(self._files):
            try:
                await self._closed(file)
            except (DomainError, OSError) as error:
                log.warning("sftp_file_not_synced", error=repr(error))

    async def _run(self, work: Callable[[], T], /) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Whatever goes wrong becomes a status code with a plain sentence."""
        if self._is_over:
            raise asyncssh.SFTPConnectionLost("The session is over")
        try:
            yield
        except asyncssh.SFTPError:
            raise
        except DomainError as error:
            refused = answers.refusal(error)
            if isinstance(error, answers.TOLD_IN_FULL):
                self._tell(refused.reason)
            raise refused from error
        except OSError as error:
            refused_by_disk = answers.disk_refusal(error)
            if refused_by_disk is not None:
                raise refused_by_disk from error
            raise self._failed(error) from error
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> asyncssh.SFTPError:
        account_id = str(self._account.account_id)
        log.error("sftp_operation_failed", account_id=account_id, exc_info=error)
        return asyncssh.SFTPFailure(both(answers.FAILED))

    def _tell(self, words: str) -> None:
        """To the terminal of a stock client; a few times, as nobody may be reading."""
        self._notes += 1
        if self._notes <= NOTES_LIMIT and not self.channel.is_closing():
            self.channel.write_stderr(f"{words}\r\n".encode())

    def _refuse_more_open(self) -> None:
        if len(self._files) + len(self._listings) >= self._open_limit:
            self._tell(both(answers.TOO_MANY_OPEN))
            raise asyncssh.SFTPFailure(both(answers.TOO_MANY_OPEN))

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        with self._answers():
            self._refuse_more_open()
            access = _access(pflags, attrs)
            names = parse_posix(path)
            if access.creates and not await self._is_there(names):
                await self._volumes.claim_file(self._account.account_id)
            file = await self._opened(names, access)
            if access.writes and pflags & FXF_TRUNC:
                self._volumes.expect_room(self._account.account_id)
                try:
                    await file.resize(0)
                except BaseException:
                    await self._closed(file)
                    raise
            return file

    async def _opened(self, names: Names, access: Access) -> OpenFile:
        descriptor = await self._run(lambda: self._volume.open_file(names, access))
        growth = Growth(self._volumes, self._account.account_id)
        file = OpenFile(descriptor, names, access, growth, self._run)
        self._files.add(file)
        return file

    async def _closed(self, file: OpenFile) -> None:
        self._files.discard(file)
        await file.close()

    async def _is_there(self, names: Names) -> bool:
        try:
            await self._run(lambda: self._volume.status(names))
        except DomainError:
            return False
        return True

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        with self._answers():
            return await _readable(file_obj).read(offset, size)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        with self._answers():
            await _writable(file_obj).write(offset, data)
            return len(data)

    async def close(self, file_obj: object) -> None:
        file = _file(file_obj)
        if file in self._files:
            with self._answers():
                await self._closed(file)

    async def fsync(self, file_obj: object) -> None:
        with self._answers():
            await _file(file_obj).sync()

    async def fstat(self, file_obj: object) -> SFTPAttrs:
        with self._answers():
            return answers.attributes(await _file(file_obj).status())

    async def stat(self, path: bytes) -> SFTPAttrs:
        with self._answers():
            names = parse_posix(path)
            found = await self._run(lambda: self._volume.status(names, follow=True))
            return answers.attributes(found)

    async def lstat(self, path: bytes) -> SFTPAttrs:
        with self._answers():
            names = parse_posix(path)
            return answers.attributes(await self._run(lambda: self._volume.status(names)))

    async def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        with self._answers():
            changes = answers.changes(attrs)
            file = _file(file_obj)
            if attrs.size is not None:
                await _writable(file).resize(attrs.size)
            await file.change(changes)

    async def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        with self._answers():
            changes = answers.changes(attrs)
            names = parse_posix(path)
            if attrs.size is not None:
                await self._resize(names, attrs.size)
            await self._run(lambda: self._volume.change(names, changes))

    async def _resize(self, names: Names, size: int) -> None:
        file = await self._opened(names, Access(reads=False, writes=True))
        try:
            await file.resize(size)
        finally:
            await self._closed(file)

    async def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        with self._answers():
            names = parse_posix(path)
            status = await self._run(lambda: self._volume.status(names))
            if kind_of(status) is Kind.link:
                raise asyncssh.SFTPOpUnsupported(both(answers.NO_LINK_CHANGES))
        await self.setstat(path, attrs)

    async def list_folder(self, path: bytes) -> AsyncIterator[SFTPName]:
        """Names in pieces; the folder is open until the iterator is dropped."""
        with self._answers():
            self._refuse_more_open()
            names = parse_posix(path)
            listing = await self._run(lambda: self._volume.scan(names))
            self._listings.add(listing)
            top = await self._run(lambda: self._volume.status(names))
        return self._names(listing, answers.attributes(top))

    async def _names(self, listing: Listing, top: SFTPAttrs) -> AsyncIterator[SFTPName]:
        for dots in (b".", b".."):
            yield SFTPName(dots, attrs=top)
        while True:
            with self._answers():
                taken = await self._run(lambda: listing.take(LISTED_AT_ONCE))
            if not taken:
                return
            for name, status in taken:
                yield SFTPName(os.fsencode(name), attrs=answers.attributes(status))

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        async for name in await self.list_folder(path):
            yield name

    async def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        with self._answers():
            names = parse_posix(path)
            if not await self._is_there(names):
                await self._volumes.claim_file(self._account.account_id)
            await self._run(lambda: self._volume.make_folder(names))

    async def rmdir(self, path: bytes) -> None:
        with self._answers():
            names = parse_posix(path)
            await self._run(lambda: self._volume.remove_folder(names))
            self._volumes.expect_room(self._account.account_id)

    async def remove(self, path: bytes) -> None:
        with self._answers():
            names = parse_posix(path)
            await self._run(lambda: self._volume.remove_file(names))
            self._volumes.expect_room(self._account.account_id)

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        await self._move(oldpath, newpath, replace=False)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        await self._move(oldpath, newpath, replace=True)

    async def _move(self, oldpath: bytes, newpath: bytes, *, replace: bool) -> None:
        with self._answers():
            source, target = parse_posix(oldpath), parse_posix(newpath)
            await self._run(lambda: self._volume.move(source, target, replace=replace))
            self._volumes.expect_room(self._account.account_id)

    async def realpath(self, path: bytes) -> bytes:
        """By its words alone: the disk is not asked, so nothing is told of it."""
        with self._answers():
            return os.fsencode(join(parse_posix(path)))

    async def readlink(self, path: bytes) -> bytes:
        with self._answers():
            names = parse_posix(path)
            return os.fsencode(await self._run(lambda: self._volume.read_link(names)))

    async def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported(both(answers.NO_LINKS))

    async def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported(both(answers.NO_LINKS))

    async def statvfs(self, path: bytes) -> SFTPVFSAttrs:
        await self.stat(path)
        return await self._room()

    async def fstatvfs(self, file_obj: object) -> SFTPVFSAttrs:
        return await self._room()

    async def _room(self) -> SFTPVFSAttrs:
        with self._answers():
            async with self._volumes.database.transaction() as session:
                row = await repository.load(session, self._account.account_id)
            return answers.room(row)

    def format_user(self, uid: int | None) -> str:
        return self._account.username

    def format_group(self, gid: int | None) -> str:
        return self._account.username


def _file(file_obj: object) -> OpenFile:
    if not isinstance(file_obj, OpenFile):
        raise asyncssh.SFTPInvalidHandle("Not an open file")
    return file_obj


def _readable(file_obj: object) -> OpenFile:
    file = _file(file_obj)
    if not file.access.reads:
        raise asyncssh.SFTPPermissionDenied(both(answers.NOT_OPEN_FOR_THIS))
    return file


def _writable(file_obj: object) -> OpenFile:
    file = _file(file_obj)
    if not file.access.writes:
        raise asyncssh.SFTPPermissionDenied(both(answers.NOT_OPEN_FOR_THIS))
    return file


def _access(pflags: int, attrs: SFTPAttrs) -> Access:
    """A new file has HTTP's mode; that it is a program is kept."""
    writes = bool(pflags & (FXF_WRITE | FXF_APPEND))
    creates = writes and bool(pflags & FXF_CREAT)
    return Access(
        reads=bool(pflags & FXF_READ) or not writes,
        writes=writes,
        appends=bool(pflags & FXF_APPEND),
        creates=creates,
        exclusive=creates and bool(pflags & FXF_EXCL),
        mode=FILE_MODE | (attrs.permissions or 0) & EXECUTE_BITS,
    )
