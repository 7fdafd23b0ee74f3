"""One account's folder on disk. Every operation stays on descriptors beneath its root.

Blocking; callers run it in threads. Tenants are root in containers that mount the same folder, so
any name may be, or at any moment become, a link, a FIFO or a device.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from services.storage.beneath import open_beneath, opened, rename_beneath
from services.storage.domain.path import Names, join
from services.storage.entries import Entry, Kind, Usage, entry_of, kind_of, shown
from services.storage.errors import IntoItself, NoSuchFile, NotEmpty, WrongKind
from services.storage.refusals import refusals, refuse_root
from services.storage.upload import Upload
from shared.crashing import crash_points

CREATE_TRIES = 8
FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Access:
    """How a file is opened. mode: of a file that is made."""

    reads: bool = True
    writes: bool = False
    appends: bool = False
    creates: bool = False
    exclusive: bool = False
    mode: int = FILE_MODE

    @property
    def flags(self) -> int:
        way = os.O_RDWR if self.reads and self.writes else os.O_WRONLY
        way = way if self.writes else os.O_RDONLY
        return way | (os.O_APPEND if self.appends else 0)


@dataclass(frozen=True, slots=True)
class Changes:
    """mode: permission bits alone. times_ns: of access and of change."""

    mode: int | None = None
    times_ns: tuple[int, int] | None = None


class Listing:
    """A folder being read in pieces, so that its size does not matter. Closed when dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._found = os.scandir(descriptor)

    def take(self, count: int) -> list[tuple[str, os.stat_result]]:
        """The next ones, links themselves; none at the end."""
        taken: list[tuple[str, os.stat_result]] = []
        for entry in self._found:
            try:
                taken.append((entry.name, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
            if len(taken) == count:
                break
        return taken

    def close(self) -> None:
        if self._descriptor >= 0:
            self._found.close()
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = close


class Volume:
    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        self.uploads = folder / "uploads"

    def prepare(self) -> None:
        """Make its folders, unless they are there. A missing one is made with mode 0700."""
        for folder in (self._files, self.uploads):
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
            refusals(names),
            self._root() as root,
            opened(root, names, os.O_RDONLY | os.O_DIRECTORY) as descriptor,
        ):
            yield descriptor

    @contextmanager
    def open(self, names: Names) -> Iterator[int]:
        """A regular file for reading. Raises NoSuchFile, WrongKind, LeadsOutside."""
        with (
            refusals(names),
            self._root() as root,
            opened(root, names, os.O_RDONLY) as descriptor,
        ):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise WrongKind(path=shown(join(names)))
            yield descriptor

    def open_file(self, names: Names, access: Access) -> int:
        """A regular file, made where `access` says so; its descriptor is the caller's to close.
        Raises NoSuchFile, AlreadyThere, WrongKind, LeadsOutside."""
        if access.creates:
            refuse_root(names)
        with refusals(names), self._root() as root:
            descriptor = self._open_or_make(root, names, access)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
        raise WrongKind(path=shown(join(names)))

    def _open_or_make(self, root: int, names: Names, access: Access) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(CREATE_TRIES):
            if not (access.creates and access.exclusive):
                try:
                    return open_beneath(root, names, access.flags)
                except FileNotFoundError:
                    if not access.creates:
                        raise
            with self._folder(names[:-1]) as parent, refusals(names):
                try:
                    made = os.open(names[-1], access.flags | flags, access.mode, dir_fd=parent)
                except FileExistsError:
                    if access.exclusive:
                        raise
                    continue
                os.fsync(parent)
                return made
        # A link to nothing: neither there nor free to be made.
        raise NoSuchFile(path=shown(join(names)))

    def status(self, names: Names, *, follow: bool = False) -> os.stat_result:
        """Of a link itself, or with `follow` of what it points to within the net disk."""
        if follow or not names:
            with refusals(names), self._root() as root, opened(root, names, os.O_PATH) as found:
                return os.fstat(found)
        with self._folder(names[:-1]) as parent, refusals(names):
            return os.stat(names[-1], dir_fd=parent, follow_symlinks=False)

    def entry(self, names: Names) -> Entry:
        """What stands at this path, a link itself and not what it points to."""
        return entry_of(names, self.status(names))

    def read_link(self, names: Names) -> str:
        """What a link says, wherever it leads. Raises WrongKind."""
        refuse_root(names)
        with self._folder(names[:-1]) as parent, refusals(names):
            status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            if kind_of(status) is not Kind.link:
                raise WrongKind(path=shown(join(names)))
            return os.readlink(names[-1], dir_fd=parent)

    def change(self, names: Names, changes: Changes) -> None:
        """Of a file or a folder, never of the top. Raises WrongKind."""
        refuse_root(names)
        with (
            refusals(names),
            self._root() as root,
            opened(root, names, os.O_RDONLY) as descriptor,
        ):
            if kind_of(os.fstat(descriptor)) not in (Kind.file, Kind.directory):
                raise WrongKind(path=shown(join(names)))
            apply_changes(descriptor, changes)

    def scan(self, names: Names) -> Listing:
        """Raises NoSuchFile, WrongKind, LeadsOutside."""
        with refusals(names), self._root() as root:
            return Listing(open_beneath(root, names, os.O_RDONLY | os.O_DIRECTORY))

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
                entries.append(entry_of((*names, name), status))
        return entries, len(order)

    def make_folder(self, names: Names) -> Entry:
        """Raises AlreadyThere, NoSuchFile when the parent is missing."""
        refuse_root(names)
        with self._folder(names[:-1]) as parent, refusals(names):
            os.mkdir(names[-1], 0o755, dir_fd=parent)
            os.fsync(parent)
        return self.entry(names)

    def new_upload(self, copy_id: UUID) -> Upload:
        self.prepare()
        return Upload(self.uploads, copy_id)

    def put(self, upload: Upload, names: Names, *, overwrite: bool) -> Entry:
        """The upload becomes the file at this path, whole and on disk, or nothing happens."""
        refuse_root(names)
        os.fsync(upload.descriptor)
        with self._folder(names[:-1]) as parent, refusals(names), upload.folder() as uploads:
            with crash_points("storage.put"):
                rename_beneath(uploads, upload.name, parent, names[-1], replace=overwrite)
            os.fsync(parent)
        return self.entry(names)

    def move(self, source: Names, target: Names, *, replace: bool = False) -> Entry:
        """Raises AlreadyThere unless `replace`, NoSuchFile, IntoItself."""
        refuse_root(source, "source")
        refuse_root(target, "target")
        if target[: len(source)] == source:
            raise IntoItself(field="target")
        with (
            self._folder(source[:-1]) as old,
            self._folder(target[:-1]) as new,
        ):
            with refusals(source):
                os.stat(source[-1], dir_fd=old, follow_symlinks=False)
            with refusals(target):
                try:
                    rename_beneath(old, source[-1], new, target[-1], replace=replace)
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        raise IntoItself(field="target") from error
                    raise
            os.fsync(new)
            os.fsync(old)
        return self.entry(target)

    def delete(self, names: Names) -> None:
        """A file, a link itself, or a folder with all in it; links inside are never followed."""
        refuse_root(names)
        with self._folder(names[:-1]) as parent, refusals(names):
            status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            with crash_points("storage.delete"):
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(names[-1], dir_fd=parent)
                else:
                    os.unlink(names[-1], dir_fd=parent)
            os.fsync(parent)

    def remove_file(self, names: Names) -> None:
        """A file or a link itself. Raises WrongKind for a folder."""
        refuse_root(names)
        with self._folder(names[:-1]) as parent, refusals(names):
            os.unlink(names[-1], dir_fd=parent)
            os.fsync(parent)

    def remove_folder(self, names: Names) -> None:
        """An empty one. Raises NotEmpty, WrongKind for a file."""
        refuse_root(names)
        with self._folder(names[:-1]) as parent, refusals(names):
            try:
                os.rmdir(names[-1], dir_fd=parent)
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:
                    raise NotEmpty(path=shown(join(names))) from error
                raise
            os.fsync(parent)

    def measure(self) -> Usage:
        """Real sizes, whoever wrote them; half uploads included."""
        size = files = 0
        for top in (self._files, self.uploads):
            for _, folders, names, descriptor in os.fwalk(top, follow_symlinks=False):
                files += len(folders) + len(names)
                for name in names:
                    try:
                        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return Usage(size, files)


def apply_changes(descriptor: int, changes: Changes) -> None:
    if changes.mode is not None:
        os.fchmod(descriptor, changes.mode & 0o777)
    if changes.times_ns is not None:
        os.utime(descriptor, ns=changes.times_ns)
