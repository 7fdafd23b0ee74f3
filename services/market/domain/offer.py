"""What a host's offer says of it."""

from enum import StrEnum


class OfferStatus(StrEnum):
    rentable = "rentable"
    sold_out = "sold_out"
    offline = "offline"


def cuda_rank(version: str) -> int:
    """Orders CUDA versions by major and minor; patch levels do not count. 0: none or unreadable."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0] or "0"
    if not (major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        return 0
    return min(int(major[:4]), 9999) * 1000 + min(int(minor[:3]), 999)
