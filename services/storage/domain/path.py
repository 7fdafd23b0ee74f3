"""A tenant's path, checked before anything opens it."""

import os
import posixpath

from services.storage.errors import BadPath

Names = tuple[str, ...]

NAME_BYTES = 255
PATH_BYTES = 4000


def parse(path: str, *, field: str = "path") -> Names:
    """`/a/b` → ("a", "b"); `/` → (). Raises BadPath."""
    if not path.startswith("/") or "\0" in path:
        raise BadPath(field=field)
    names = tuple(path[1:].removesuffix("/").split("/")) if path != "/" else ()
    try:
        sizes = [len(name.encode()) for name in names]
    except UnicodeEncodeError as error:
        raise BadPath(field=field) from error
    if any(name in ("", ".", "..") for name in names):
        raise BadPath(field=field)
    _refuse_long(sizes, field)
    return names


def parse_posix(path: bytes) -> Names:
    """As file protocols write it: relative to the top, with `.` and `..`, in any bytes. `..` is
    taken from the words, never from the disk. Raises BadPath."""
    if b"\0" in path or len(path) > 2 * PATH_BYTES:
        raise BadPath(field="path")
    names = tuple(name for name in posixpath.normpath(b"/" + path).split(b"/") if name)
    _refuse_long([len(name) for name in names], "path")
    return tuple(os.fsdecode(name) for name in names)


def _refuse_long(sizes: list[int], field: str) -> None:
    if any(size > NAME_BYTES for size in sizes) or sum(sizes) + len(sizes) > PATH_BYTES:
        raise BadPath(field=field)


def join(names: Names) -> str:
    return "/" + "/".join(names)
