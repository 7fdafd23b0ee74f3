"""One account's folder on disk. Every operation stays on descriptors beneath its root.

Blocking; callers run it in threads. Tenants are root in containers that mount the same folder, so
any name may be, or at any moment become, a link, a FIFO or a device.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from services.storage.beneath import opened, rename_beneath
from services.storage.domain.path import join
from services.storage.errors import (
    AlreadyThere,
    BadPath,
    DiskFull,
    IntoItself,
    LeadsOutside,
    NoSuchFile,
    WrongKind,
)
from shared.errors import DomainError

Names = tuple[str, ...]


class Kind(StrEnum):
    file = "file"
    directory = "directory"
    link = "link"
    other = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    path: str
    kind: Kind
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    bytes: int
    files: int


class Volume:
    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        self._uploads = folder / "uploads"

    def prepare(self) -> None:
        """Make its folders, unless they are there. A missing one is made with mode 0700."""
        for folder in (self._files, self._uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def _root(self) -> Iterator[int]:
        self.prepare()
        descriptor = os.open(self._files, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _folder(self, names: Names) -> Iterator[int]:
        """A folder to list or to change names in."""
        with (
            _refusals(names),
            self._root() as root,
            opened(root, names, os.O_RDONLY | os.O_DIRECTORY) as descriptor,
        ):
            yield descriptor

    @contextmanager
    def open(self, names: Names) -> Iterator[int]:
        """A regular file for reading. Raises NoSuchFile, WrongKind, LeadsOutside."""
        with (
            _refusals(names),
            self._root() as root,
            opened(root, names, os.O_RDONLY) as descriptor,
        ):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise WrongKind(path=join(names))
            yield descriptor

    def entry(self, names: Names) -> Entry:
        """What stands at this path, a link itself and not what it points to."""
        if not names:
            with self._folder(()) as descriptor:
                return _entry((), os.fstat(descriptor))
        with self._folder(names[:-1]) as parent, _refusals(names):
            return _entry(names, os.stat(names[-1], dir_fd=parent, follow_symlinks=False))

    def list(self, names: Names, offset: int, limit: int) -> tuple[list[Entry], int]:
        """Folders first, then by name; one page and the total."""
        with self._folder(names) as descriptor:
            with os.scandir(descriptor) as found:
                order = sorted((not e.is_dir(follow_symlinks=False), e.name) for e in found)
            entries = []
            for _, name in order[offset : offset + limit]:
                try:
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                entries.append(_entry((*names, name), status))
        return entries, len(order)

    def make_folder(self, names: Names) -> Entry:
        """Raises AlreadyThere, NoSuchFile when the parent is missing."""
        _refuse_root(names)
        with self._folder(names[:-1]) as parent, _refusals(names):
            os.mkdir(names[-1], 0o755, dir_fd=parent)
            os.fsync(parent)
        return self.entry(names)

    def new_upload(self) -> "Upload":
        self.prepare()
        return Upload(self._uploads)

    def put(self, upload: "Upload", names: Names, *, overwrite: bool) -> Entry:
        """The upload becomes the file at this path, whole and on disk, or nothing happens."""
        _refuse_root(names)
        os.fsync(upload.descriptor)
        with self._folder(names[:-1]) as parent, _refusals(names), upload.folder() as uploads:
            rename_beneath(uploads, upload.name, parent, names[-1], replace=overwrite)
            os.fsync(parent)
        return self.entry(names)

    def move(self, source: Names, target: Names) -> Entry:
        """Raises AlreadyThere, NoSuchFile, IntoItself."""
        _refuse_root(source, "source")
        _refuse_root(target, "target")
        if target[: len(source)] == source:
            raise IntoItself(field="target")
        with (
            self._folder(source[:-1]) as old,
            self._folder(target[:-1]) as new,
        ):
            with _refusals(source):
                os.stat(source[-1], dir_fd=old, follow_symlinks=False)
            with _refusals(target):
                rename_beneath(old, source[-1], new, target[-1], replace=False)
            os.fsync(new)
            os.fsync(old)
        return self.entry(target)

    def delete(self, names: Names) -> None:
        """A file, a link itself, or a folder with all in it; links inside are never followed."""
        _refuse_root(names)
        with self._folder(names[:-1]) as parent, _refusals(names):
            status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(names[-1], dir_fd=parent)
            else:
                os.unlink(names[-1], dir_fd=parent)
            os.fsync(parent)

    def forget_uploads(self) -> None:
        """What an earlier process left half done."""
        self.prepare()
        for left in self._uploads.iterdir():
            left.unlink()

    def measure(self) -> Usage:
        """Real sizes, whoever wrote them; half uploads included."""
        size = files = 0
        for top in (self._files, self._uploads):
            for _, folders, names, descriptor in os.fwalk(top, follow_symlinks=False):
                files += len(folders) + len(names)
                for name in names:
                    try:
                        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return Usage(size, files)


class Upload:
    """A file in the making, where no tenant can reach it. Use as a context: what was not put in
    its place is removed."""

    def __init__(self, uploads: Path) -> None:
        self._uploads = uploads
        self.name = secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.descriptor = os.open(uploads / self.name, flags, 0o644)

    @contextmanager
    def folder(self) -> Iterator[int]:
        descriptor = os.open(self._uploads, os.O_PATH | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def write(self, chunk: bytes) -> None:
        """All of it. Raises DiskFull."""
        view = memoryview(chunk)
        with _refusals(()):
            while view:
                view = view[os.write(self.descriptor, view) :]

    def close(self) -> None:
        os.close(self.descriptor)
        (self._uploads / self.name).unlink(missing_ok=True)


def _entry(names: Names, status: os.stat_result) -> Entry:
    if stat.S_ISREG(status.st_mode):
        kind = Kind.file
    elif stat.S_ISDIR(status.st_mode):
        kind = Kind.directory
    else:
        kind = Kind.link if stat.S_ISLNK(status.st_mode) else Kind.other
    return Entry(
        name=_shown(names[-1] if names else "/"),
        path=_shown(join(names)),
        kind=kind,
        size_bytes=status.st_size if kind is Kind.file else 0,
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _shown(name: str) -> str:
    """Names made in containers may be no UTF-8 at all."""
    return os.fsencode(name).decode(errors="replace")


def _refuse_root(names: Names, field: str = "path") -> None:
    if not names:
        raise BadPath(field=field)


_REFUSAL_OF: dict[int, type[DomainError]] = {
    errno.ENOENT: NoSuchFile,
    errno.ENOTDIR: WrongKind,
    errno.EISDIR: WrongKind,
    errno.ENXIO: WrongKind,
    errno.ENOTEMPTY: AlreadyThere,
    errno.EEXIST: AlreadyThere,
    errno.EXDEV: LeadsOutside,
    errno.ELOOP: LeadsOutside,
    errno.EINVAL: IntoItself,
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.ENAMETOOLONG: BadPath,
}


@contextmanager
def _refusals(names: Names) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        refusal = _REFUSAL_OF.get(error.errno or 0)
        if refusal is None:
            raise
        raise refusal(path=join(names)) from error
