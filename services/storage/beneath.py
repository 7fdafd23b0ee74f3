"""Opening what a tenant names, and nothing above it.

`openat2(2)` resolves the whole path in the kernel, beneath a folder: no `..`, no absolute link and
no race with a container that swaps links while we look can lead out. A lexical join can't promise
that, nor can `realpath` and a prefix (CVE-2018-15664).
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_RENAME_NOREPLACE = 1
_TRIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(root: int, names: tuple[str, ...], flags: int) -> int:
    """A descriptor, the caller's to close. root: descriptor of the folder that nothing may leave.
    Raises OSError: EXDEV or ELOOP where a link leads out. Never blocks on a FIFO."""
    path = os.fsencode("/".join(names) or ".")
    flags |= os.O_CLOEXEC
    if not flags & os.O_PATH:  # which opens nothing, and takes no such flags
        flags |= os.O_NONBLOCK | os.O_NOCTTY
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV
    how = _OpenHow(flags, 0, resolve)
    for _ in range(_TRIES):
        descriptor: int = _libc.syscall(
            _SYS_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how)
        )
        # EAGAIN: a rename happened on the way, so the kernel could not be sure.
        if descriptor >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


@contextmanager
def opened(root: int, names: tuple[str, ...], flags: int) -> Iterator[int]:
    """As `open_beneath`, closed at the end of the block."""
    descriptor = open_beneath(root, names, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def rename_beneath(
    source: int, source_name: str, target: int, target_name: str, *, replace: bool
) -> None:
    """Between two folders given by descriptor. Raises FileExistsError unless `replace`."""
    result = _libc.renameat2(
        source,
        os.fsencode(source_name),
        target,
        os.fsencode(target_name),
        0 if replace else _RENAME_NOREPLACE,
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
