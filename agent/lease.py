"""How long an instance may run without a newer word from the scheduler. Pure.

The scheduler's clock says how long; this host's boot-time clock, which nobody sets and which counts
on through a suspend, says when that is over.
"""

from datetime import datetime

from agent.journal import Lease
from shared.events.agent import DesiredInstance

WORTH_WRITING = 0.01


def renewed(
    known: Lease | None,
    order: DesiredInstance,
    issued_at: datetime,
    *,
    boot_id: str,
    now_s: float,
) -> Lease | None:
    """What holds after this order. The same order again, however late, prolongs nothing.
    now_s: on the boot-time clock."""
    if order.paid_until is None:
        return None
    if known is not None and known.boot_id == boot_id and issued_at <= known.issued_at:
        return known
    allowed_s = (order.paid_until - issued_at).total_seconds()
    return Lease(boot_id=boot_id, until_s=now_s + allowed_s, issued_at=issued_at)


def is_over(lease: Lease | None, *, boot_id: str, now_s: float) -> bool:
    """One of an earlier boot says nothing: what it was about went down with the host."""
    return lease is not None and lease.boot_id == boot_id and now_s >= lease.until_s


def is_worth_writing(journaled: Lease | None, lease: Lease | None, *, now_s: float) -> bool:
    """Orders come every few seconds, and most move the end by nothing or by little of what
    remains: a shorter lease is written, a longer one when a hundredth of it would be lost."""
    if journaled is None or lease is None or journaled.boot_id != lease.boot_id:
        return journaled != lease
    gained_s = lease.until_s - journaled.until_s
    return gained_s < -1 or gained_s > max(1.0, WORTH_WRITING * (lease.until_s - now_s))
