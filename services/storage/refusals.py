"""What the disk refuses, in the words of the net disk."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from services.storage.domain.path import Names, join
from services.storage.entries import shown
from services.storage.errors import (
    AlreadyThere,
    BadPath,
    DiskFull,
    LeadsOutside,
    NoSuchFile,
    WrongKind,
)
from shared.errors import DomainError

_REFUSAL_OF: dict[int, type[DomainError]] = {
    errno.ENOENT: NoSuchFile,
    errno.ENOTDIR: WrongKind,
    errno.EISDIR: WrongKind,
    errno.ENXIO: WrongKind,
    errno.ENOTEMPTY: AlreadyThere,
    errno.EEXIST: AlreadyThere,
    errno.EXDEV: LeadsOutside,
    errno.ELOOP: LeadsOutside,
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.ENAMETOOLONG: BadPath,
}


@contextmanager
def refusals(names: Names) -> Iterator[None]:
    """OSError becomes what a person can act on; one that says nothing to them passes."""
    try:
        yield
    except OSError as error:
        refusal = _REFUSAL_OF.get(error.errno or 0)
        if refusal is None:
            raise
        raise refusal(path=shown(join(names))) from error


def refuse_root(names: Names, field: str = "path") -> None:
    if not names:
        raise BadPath(field=field)
