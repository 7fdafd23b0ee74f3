"""A fleet on one machine: 1,000 agents, 10,000 instances, no containers.

`fleet_converge_s`: from the last rent's answer until every instance is where its order wants it
(those of agents whose starts never end excepted), beside the longest time that any one agent takes
for a start by its own personality. `fleet_memory_mib`: of the platform's own processes, beside the
same processes before the first agent. `node_loss_seen_s`, `node_loss_settled_s`: from the moment
when ten hosts vanish until all ten are silent, and until all their runs are settled in the market's
ledger; beside what the settings make the least possible. Rents, starts and CPU are told on the way.
At the end all must be true that the platform holds true, whatever the liars among the agents said
(`truth.py`).

FLEET_NODES and FLEET_INSTANCES make it smaller; at least 40 nodes have every personality in them.
"""

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from bench.fleet.agents import Personality, personality_of
from bench.fleet.control import Control
from bench.fleet.truth import nodes_of, untrue
from tests.e2e.waiting import until

NODES = int(os.environ.get("FLEET_NODES", "1000"))
INSTANCES = int(os.environ.get("FLEET_INSTANCES", "10000"))
ACCOUNTS, LOST, SEED = max(1, min(50, INSTANCES // 20)), 10, 7
AT_ONCE = 16
REST_S = 30
SLOWEST_START_S = 20.0
SILENT_AFTER_S, LOST_AFTER_S = 12.0, 45.0


def tell(name: str, value: float, unit: str, baseline: float) -> None:
    ratio = round(value / baseline, 3) if baseline else 0.0
    row = {"name": name, "value": round(value, 2), "unit": unit}
    print(json.dumps(row | {"baseline": round(baseline, 2), "ratio": ratio}), flush=True)


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


async def timed(what: str, doing: Awaitable[None]) -> None:
    began = time.monotonic()
    await doing
    say(f"{what}: {time.monotonic() - began:.0f} s")


async def rent_all(control: Control, tokens: list[str], image: str) -> None:
    """As users do, `AT_ONCE` at a time; each node gets its share. Where a host is not heard or
    the platform is busy, again after a second."""
    nodes = [node["node_id"] for node in control.credentials]
    waiting = iter(range(INSTANCES))
    took: list[float] = []
    refused: Counter[str] = Counter()

    async def renter() -> None:
        for number in waiting:
            wish = {"offer_id": nodes[number % NODES], "gpu_count": 1, "image_id": image}
            asked = time.monotonic()
            while refusal := await control.rent(tokens[number % ACCOUNTS], wish):
                refused[refusal] += 1
                await asyncio.sleep(1)
                asked = time.monotonic()
            took.append(time.monotonic() - asked)

    before, began = control.cpu_seconds(), time.monotonic()
    await asyncio.gather(*(renter() for _ in range(AT_ONCE)))
    all_s = time.monotonic() - began
    took.sort()
    half, most = took[len(took) // 2], took[len(took) * 99 // 100]
    say(f"{INSTANCES} rents in {all_s:.0f} s: {INSTANCES / all_s:.0f} a second")
    say(f"refused, and asked again after a second: {dict(refused)}")
    say(f"half of them within {half:.2f} s, 99 % within {most:.2f} s")
    tell_cpu(control, "during rents", before, all_s)


def tell_cpu(control: Control, when: str, before: dict[str, float], seconds: float) -> None:
    for part, used in control.cpu_seconds().items():
        say(f"{when} {part}: {(used - before[part]) / seconds:.2f} cores")


async def converge(control: Control) -> float:
    never = nodes_of(control, Personality.never)
    began = time.monotonic()

    async def arrived() -> bool:
        rows = await control.ask(
            "scheduler",
            "SELECT 1 FROM instances WHERE state NOT IN ('running', 'stopped', 'failed')"
            " AND NOT node_id = ANY($1::uuid[]) LIMIT 1",
            never,
        )
        return not rows

    await until(arrived, timeout_s=900, what="every instance is where its order wants it")
    took = time.monotonic() - began
    rows = await control.ask(
        "scheduler",
        "SELECT state, count(*) AS n,"
        " percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP"
        " (ORDER BY extract(epoch FROM started_at - start_ordered_at)) AS took"
        " FROM instances GROUP BY state",
    )
    for row in rows:
        starts = [round(s, 1) for s in row["took"] or [] if s is not None]
        say(f"{row['n']} {row['state']}; from rent to start, half, 99 %, all: {starts} s")
    return took


async def lose(control: Control) -> tuple[float, float]:
    """Seconds until all are silent, and until all their runs are settled."""
    numbers = [n for n in range(NODES) if personality_of(n) is Personality.normal][:LOST]
    ids = [control.credentials[n]["node_id"] for n in numbers]
    began = time.monotonic()
    await control.lose(numbers)

    async def none(database: str, question: str) -> bool:
        rows: list[Any] = await control.ask(database, question, ids)
        return not rows

    await until(
        lambda: none("scheduler", "SELECT 1 FROM nodes WHERE id = ANY($1::uuid[])"
                     " AND state = 'online'"),
        timeout_s=120, what="the lost hosts are silent",
    )  # fmt: skip
    seen = time.monotonic() - began
    await until(
        lambda: none("market", "SELECT 1 FROM authorisations WHERE state = 'active'"
                     " AND node_id = ANY($1::uuid[])"),
        timeout_s=240, what="the runs on the lost hosts are settled",
    )  # fmt: skip
    return seen, time.monotonic() - began


def may_open_many_files() -> None:
    """Two connections an agent, at both ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def main() -> None:
    async with Control(Path(tempfile.mkdtemp(prefix="chusuan-fleet-"))) as control:
        empty = control.memory_mib()
        await timed(f"{NODES} nodes joined", control.join_all(NODES))
        say(f"joins that were told to come again: {control.joins_again}")
        await timed(f"{NODES} agents online", control.start_agents(SEED))
        image = await control.ready_image()
        began = time.monotonic()
        tokens = await control.people(ACCOUNTS)
        say(f"{ACCOUNTS} people came: {time.monotonic() - began:.0f} s")
        await rent_all(control, tokens, image)
        converged = await converge(control)
        before = control.cpu_seconds()
        await asyncio.sleep(REST_S)
        tell_cpu(control, "at rest", before, REST_S)
        for part, mib in control.memory_by_part().items():
            say(f"memory {part}: {mib:.0f} MiB")
        tell("fleet_converge_s", converged, "s", SLOWEST_START_S)
        tell("fleet_memory_mib", control.memory_mib(), "MiB", empty)
        seen, settled = await lose(control)
        tell("node_loss_seen_s", seen, "s", SILENT_AFTER_S)
        tell("node_loss_settled_s", settled, "s", LOST_AFTER_S)
        wrong = await untrue(control)
        assert not wrong, "\n".join(wrong[:50])
        say("all is true that should be")


if __name__ == "__main__":
    may_open_many_files()
    asyncio.run(main())
