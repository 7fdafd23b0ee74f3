"""What stands in a folder, as both doors of the net disk see it."""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from services.storage.domain.path import Names, join


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


def kind_of(status: os.stat_result) -> Kind:
    if stat.S_ISREG(status.st_mode):
        return Kind.file
    if stat.S_ISDIR(status.st_mode):
        return Kind.directory
    return Kind.link if stat.S_ISLNK(status.st_mode) else Kind.other


def entry_of(names: Names, status: os.stat_result) -> Entry:
    kind = kind_of(status)
    return Entry(
        name=shown(names[-1] if names else "/"),
        path=shown(join(names)),
        kind=kind,
        size_bytes=status.st_size if kind is Kind.file else 0,
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def shown(name: str) -> str:
    """Names made in containers may be no UTF-8 at all."""
    return os.fsencode(name).decode(errors="replace")
