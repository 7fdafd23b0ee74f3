"""After the fault: the split platform comes to rest by itself, and how long that takes."""

import sys
import time
from collections.abc import AsyncIterator

from tests.e2e.waiting import until
from tests.fault.invariants import REST, Check, broken, quota_is_what_lies_on_disk
from tests.fault.split.topology import Split
from tests.fault.topology import Topology

QUIET_WITHIN_S = 90.0


async def no_host_is_away(topology: Topology) -> AsyncIterator[str]:
    for row in await topology.ask("scheduler", "SELECT name, state FROM nodes"):
        if row["state"] not in ("online", "removed"):
            yield f"{row['name']} is {row['state']}"
    for row in await topology.ask("scheduler", "SELECT opened_at FROM breaker"):
        if row["opened_at"] is not None:
            yield "the breaker is open"


async def no_disk_is_left_on_hosts(split: Split) -> AsyncIterator[str]:
    tags = await split.platform.docker("images", "--format", "{{.Repository}}", "chusuan-disk/*")
    gone = await split.ask("scheduler", "SELECT id FROM instances WHERE state = 'released'")
    for row in gone:
        if f"chusuan-disk/{row['id'].hex}" in tags.split():
            yield f"a disk of {row['id']} is left"


async def nothing_waits_in_the_broker(split: Split) -> AsyncIterator[str]:
    """The broker's own dead letters are empty, and every queue that keeps everything is too."""
    for line in (await split.platform.broker.ctl(
        "list_queues", "-p", "chusuan", "name", "messages", "--no-table-headers"
    )).splitlines():  # fmt: skip
        name, _, count = line.partition("\t")
        if count.strip() not in ("", "0") and not name.startswith("agent."):
            yield f"queue {name} holds {count}"


CHECKS: tuple[Check, ...] = tuple(
    dict.fromkeys((*REST, quota_is_what_lies_on_disk, no_host_is_away))
)


async def comes_to_rest(split: Split, within_s: float = QUIET_WITHIN_S) -> float:
    """Seconds it took. Raises AssertionError with all that is wrong."""
    left: list[str] = []
    began = time.monotonic()

    async def quiet() -> bool:
        left[:] = [f"{check.__name__}: {what}" for check in CHECKS async for what in check(split)]
        for own in (no_disk_is_left_on_hosts, nothing_waits_in_the_broker):
            # Each asks another program; the cheap ones first.
            left.extend([] if left else [what async for what in own(split)])
        return not left

    try:
        await until(quiet, timeout_s=within_s, what="everything has come to rest")
    except TimeoutError as late:
        raise AssertionError(f"{late}: {left}") from None
    assert await broken(split) == []
    took_s = time.monotonic() - began
    sys.stderr.write(f"quiet after {took_s:.1f} s\n")
    return took_s
