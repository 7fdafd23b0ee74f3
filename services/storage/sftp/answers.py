"""What the door answers: attributes as a tenant may see them, refusals as SFTP's status codes."""

import errno
import os
from collections.abc import Callable

import asyncssh

from services.storage.errors import (
    AlreadyThere,
    DiskFull,
    InsufficientQuota,
    LeadsOutside,
    NoSuchFile,
    TooManyFiles,
)
from services.storage.models import VolumeRow
from services.storage.volume import Changes
from shared.errors import DomainError
from shared.text import Text

BLOCK_BYTES = 4096
NAME_BYTES = 255
# SFTP 3 carries times in 32 bits; containers may set any.
TIME_LIMIT = (1 << 32) - 1

NO_LINKS = Text(
    "此处不能创建链接，请在实例中创建。", "Links cannot be made here. Make them in an instance."
)
NO_LINK_CHANGES = Text("不能更改链接本身。", "A link itself cannot be changed.")
NO_OWNER = Text("不能更改所有者。", "Owners cannot be changed.")
NOT_OPEN_FOR_THIS = Text("打开文件时未申请此操作。", "The file was not opened for this.")
TOO_MANY_OPEN = Text(
    "打开的文件过多，请先关闭一些。", "Too many files are open. Close some of them first."
)
FAILED = Text("平台未能完成，请稍后重试。", "The platform could not do this. Try again shortly.")

_CODES: tuple[tuple[type[DomainError], Callable[[str], asyncssh.SFTPError]], ...] = (
    (NoSuchFile, asyncssh.SFTPNoSuchFile),
    (LeadsOutside, asyncssh.SFTPPermissionDenied),
    (AlreadyThere, asyncssh.SFTPFileAlreadyExists),
    (InsufficientQuota, asyncssh.SFTPQuotaExceeded),
    (TooManyFiles, asyncssh.SFTPQuotaExceeded),
    (DiskFull, asyncssh.SFTPNoSpaceOnFilesystem),
)
# Stock clients show only SFTP 3's few words; these are worth telling in full.
TOLD_IN_FULL = (InsufficientQuota, TooManyFiles, DiskFull)


def both(text: Text, **values: object) -> str:
    """SFTP says nothing of the client's language."""
    return f"{text.render('en', **values)} {text.render('zh', **values)}"


def refusal(error: DomainError) -> asyncssh.SFTPError:
    reason = both(error.detail, **error.values)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code(reason)
    return asyncssh.SFTPFailure(reason)


def disk_refusal(error: OSError) -> asyncssh.SFTPError | None:
    """None for what a client can do nothing about."""
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return asyncssh.SFTPPermissionDenied(os.strerror(error.errno))
        case errno.EFBIG | errno.EMLINK | errno.EINVAL | errno.EBUSY:
            return asyncssh.SFTPFailure(os.strerror(error.errno))
        case _:
            return None


def attributes(status: os.stat_result) -> asyncssh.SFTPAttrs:
    """Owner and group as in the containers, whatever they are on this host."""
    return asyncssh.SFTPAttrs(
        size=status.st_size,
        uid=0,
        gid=0,
        permissions=status.st_mode,
        atime=_seconds(status.st_atime),
        mtime=_seconds(status.st_mtime),
        nlink=status.st_nlink,
    )


def _seconds(time: float) -> int:
    return min(max(int(time), 0), TIME_LIMIT)


def changes(wanted: asyncssh.SFTPAttrs) -> Changes:
    """Without the size. Raises SFTPPermissionDenied where owners are to change."""
    if wanted.uid is not None or wanted.gid is not None:
        raise asyncssh.SFTPPermissionDenied(both(NO_OWNER))
    times_ns = None
    if wanted.atime is not None and wanted.mtime is not None:
        times_ns = (wanted.atime * 10**9, wanted.mtime * 10**9)
    return Changes(mode=wanted.permissions, times_ns=times_ns)


def room(volume: VolumeRow) -> asyncssh.SFTPVFSAttrs:
    """The quota as the size of a disk."""
    free_bytes = max(0, volume.quota_bytes - volume.used_bytes - volume.reserved_bytes)
    free_files = max(0, volume.quota_files - volume.used_files)
    return asyncssh.SFTPVFSAttrs(
        bsize=BLOCK_BYTES,
        frsize=BLOCK_BYTES,
        blocks=volume.quota_bytes // BLOCK_BYTES,
        bfree=free_bytes // BLOCK_BYTES,
        bavail=free_bytes // BLOCK_BYTES,
        files=volume.quota_files,
        ffree=free_files,
        favail=free_files,
        namemax=NAME_BYTES,
    )
