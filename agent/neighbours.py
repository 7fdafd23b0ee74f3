"""A knock at an instance that is still coming up must not cost the next one a second.

A published port takes connections before the container can answer on its bridge; the kernel then
asks for its link address only once a second (`retrans_time_ms`), and whoever knocks meanwhile
waits for that. On a bridge inside one machine the answer takes microseconds.
"""

from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

ASK_AGAIN_MS = 20
NEIGHBOURS = Path("/proc/sys/net/ipv4/neigh")


def ask_quickly(bridge: str) -> None:
    """Blocking. Without the right to it, knocks are answered late and nothing else."""
    try:
        (NEIGHBOURS / bridge / "retrans_time_ms").write_text(str(ASK_AGAIN_MS))
    except OSError as error:
        log.warning("neighbours_unchanged", bridge=bridge, error=str(error))
