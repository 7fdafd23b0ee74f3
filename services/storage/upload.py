"""A file in the making. Blocking; callers run it in threads."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from services.storage.refusals import refusals


def copy_of(name: str) -> UUID | None:
    """Which copy of storage receives it."""
    try:
        return UUID(name.partition("-")[0])
    except ValueError:
        return None


class Upload:
    """A file in the making, where no tenant can reach it. Use as a context: what was not put in
    its place is removed."""

    def __init__(self, uploads: Path, copy_id: UUID) -> None:
        self._uploads = uploads
        self.name = f"{copy_id.hex}-{secrets.token_hex(16)}"
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
        with refusals(()):
            while view:
                view = view[os.write(self.descriptor, view) :]

    def close(self) -> None:
        os.close(self.descriptor)
        (self._uploads / self.name).unlink(missing_ok=True)
