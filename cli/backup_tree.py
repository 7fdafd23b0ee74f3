"""Copies trees in which tenants plant what they like while we read.

No path of theirs is ever followed: each folder is opened beneath the one above it, and a link is
written down, never opened. What is no file, folder or link is left out, and so is what lies deeper
than anything the platform itself makes.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cli.backup_manifest import CHUNK, Item, content_path, items

MOST_DEEP = 256
TRIES = 3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Parts = tuple[str, ...]


@dataclass(slots=True)
class Copying:
    """target: the backup's folder."""

    home: Path
    target: Path
    number: int = 0
    files: int = 0
    bytes: int = 0
    unsteady: int = 0
    left_out: int = 0
    _waiting: list[Parts] = field(default_factory=list)

    def tree(self, start: str, leave_out: frozenset[str] = frozenset()) -> Iterator[Item]:
        """Of a folder or file of the home; nothing where it is not there. leave_out: paths within
        the home."""
        self._waiting = [(start,)]
        while self._waiting:
            parts = self._waiting.pop()
            if "/".join(parts) in leave_out:
                continue
            try:
                with _opened(self.home, parts[:-1]) as above:
                    yield from self._one(above, parts)
            except FileNotFoundError:
                # Gone since its folder was read.
                continue
            except OSError:
                self.left_out += 1

    def _one(self, above: int, parts: Parts) -> Iterator[Item]:
        name = parts[-1]
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            yield _item(parts, "folder", found)
            self._enter(above, parts)
        elif stat.S_ISLNK(found.st_mode):
            target = os.readlink(name, dir_fd=above)
            yield _item(parts, "link", found).model_copy(update={"target": target})
        elif stat.S_ISREG(found.st_mode):
            yield self._file(above, parts)
        else:
            self.left_out += 1

    def _enter(self, above: int, parts: Parts) -> None:
        handle = os.open(parts[-1], _FOLDER, dir_fd=above)
        try:
            names = sorted(os.listdir(handle), reverse=True)
        finally:
            os.close(handle)
        if len(parts) >= MOST_DEEP:
            self.left_out += len(names)
        else:
            self._waiting += [(*parts, name) for name in names]

    def _file(self, above: int, parts: Parts) -> Item:
        """As it was at one moment, where it holds still for that long."""
        self.number += 1
        target = content_path(self.target, self.number)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for attempt in range(TRIES):
            handle = os.open(parts[-1], _FILE, dir_fd=above)
            with os.fdopen(handle, "rb") as source:
                before = os.fstat(handle)
                if not stat.S_ISREG(before.st_mode):
                    raise OSError(f"{parts!r} is no file any more")
                digest, size = _copy(source, target)
                after = os.fstat(handle)
            steady = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
            if (steady and size == after.st_size) or attempt == TRIES - 1:
                break
        self.files += 1
        self.bytes += size
        self.unsteady += not steady
        return _item(parts, "file", after).model_copy(
            update={
                "size": size, "sha256": digest, "content": self.number, "unsteady": not steady,
            }
        )  # fmt: skip


def _copy(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Hash and length of what was written."""
    digest, size = hashlib.sha256(), 0
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return digest.hexdigest(), size


def put_back(folder: Path, home: Path) -> None:
    """Into a home in which nobody else writes. Owners come back where we are root."""
    folders: list[Item] = []
    for item in items(folder):
        path = home / item.path
        if not path.parent.resolve().is_relative_to(home.resolve()):
            raise OSError(f"{item.path!a} leads out of {home}")
        if item.kind == "folder":
            path.mkdir(mode=0o700, exist_ok=True)
            folders.append(item)
        elif item.kind == "link":
            os.symlink(item.target, path)
            _own(path, item)
            os.utime(path, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)
        elif item.content is not None:
            with content_path(folder, item.content).open("rb") as source:
                _copy(source, path)
            _finish(path, item)
    # From the inside out: what is put into a folder moves its time.
    for item in reversed(folders):
        _finish(home / item.path, item)


def _finish(path: Path, item: Item) -> None:
    _own(path, item)
    path.chmod(item.mode)
    os.utime(path, ns=(item.mtime_ns, item.mtime_ns))


def _own(path: Path, item: Item) -> None:
    if os.geteuid() == 0:
        os.chown(path, item.uid, item.gid, follow_symlinks=False)


@contextmanager
def _opened(home: Path, parts: Parts) -> Iterator[int]:
    """The folder beneath the home, by way of no link."""
    handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _item(parts: Parts, kind: str, found: os.stat_result) -> Item:
    return Item.model_validate(
        {
            "path": "/".join(parts),
            "kind": kind,
            "mode": stat.S_IMODE(found.st_mode),
            "uid": found.st_uid,
            "gid": found.st_gid,
            "mtime_ns": found.st_mtime_ns,
        }
    )
