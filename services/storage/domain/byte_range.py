"""One byte range of a file (RFC 9110 §14.2). Several at once are answered with the whole file."""

import re
from dataclasses import dataclass

from services.storage.errors import RangeNotSatisfiable

_SINGLE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Both ends inclusive."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """None where the whole file is to be sent. Raises RangeNotSatisfiable."""
    match = _SINGLE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        asked = int(last)
        wanted = ByteRange(max(0, size - asked), size - 1)
        satisfiable = asked > 0 and size > 0
    else:
        if last and int(last) < int(first):
            return None
        wanted = ByteRange(int(first), min(int(last) if last else size - 1, size - 1))
        satisfiable = int(first) < size
    if not satisfiable:
        raise RangeNotSatisfiable(size_bytes=size)
    return wanted
