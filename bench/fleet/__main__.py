"""A fleet on one machine: 1,000 agents, 10,000 instances, no containers.

`fleet_converge_s`: from the last rent's answer until every instance is where its order wants it
(those of agents whose starts never end excepted), beside the longest time that any one agent takes
for a start by its own personality. `fleet_memory_mib`: of the platform's own processes, beside the
same processes before the first agent. `node_loss_seen_s`, `node_loss_settled_s`: from the moment
when ten hosts vanish until all ten are silent, and until all their runs are settled in the market's
ledger; beside what the settings make the least possible. Rents and CPU are told on the way.

FLEET_NODES and FLEET_INSTANCES make it smaller.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fleet.agents import Personality, personality_of
from bench.fleet.control import Control
from tests.e2e.waiting import until

NODES = int(os.environ.get("FLEET_NODES", "1000"))
INSTANCES = int(os.environ.get("FLEET_INSTANCES", "10000"))
ACCOUNTS, LOST, SEED = 50, 10, 7
AT_ONCE = 16
SLOWEST_START_S = 20.0
SILENT_AFTER_S, LOST_AFTER_S = 12.0, 45.0


def tell(name: str, value: float, unit: str, baseline: float) -> None:
    ratio = round(value / baseline, 3) if baseline else 0.0
    row = {"name": name, "value": round(value, 2), "unit": unit}
    print(json.dumps(row | {"baseline": round(baseline, 2), "ratio": ratio}), flush=True)


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


async def rent_all(control: Control, tokens: list[str], image: str) -> None:
    """As users do, `AT_ONCE` at a time; each node gets its share."""
    nodes = [node["node_id"] for node in control.credentials]
    waiting = iter(range(INSTANCES))

    async def renter() -> None:
        for number in waiting:
            wish = {"offer_id": nodes[number % NODES], "gpu_count": 1, "image_id": image}
            await control.rent(tokens[number % ACCOUNTS], wish)

    began = time.monotonic()
    await asyncio.gather(*(renter() for _ in range(AT_ONCE)))
    took = time.monotonic() - began
    say(f"{INSTANCES} rents in {took:.0f} s: {INSTANCES / took:.0f} a second")


async def converge(control: Control) -> float:
    never = [
        node["node_id"]
        for number, node in enumerate(control.credentials)
        if personality_of(number) is Personality.never
    ]
    began = time.monotonic()

    async def arrived() -> bool:
        rows = await control.ask(
            "scheduler",
            "SELECT count(*) AS n FROM instances WHERE state NOT IN ('running', 'stopped')"
            " AND NOT node_id = ANY($1::uuid[])",
            never,
        )
        return bool(rows[0]["n"] == 0)

    await until(arrived, timeout_s=900, what="every instance is where its order wants it")
    return time.monotonic() - began


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
                     " AND host_id = ANY($1::uuid[])"),
        timeout_s=240, what="the runs on the lost hosts are settled",
    )  # fmt: skip
    return seen, time.monotonic() - began


async def main() -> None:
    async with Control(Path(tempfile.mkdtemp(prefix="chusuan-fleet-"))) as control:
        empty = control.memory_mib()
        await control.join_all(NODES)
        say(f"{NODES} nodes joined")
        await control.start_agents(SEED)
        image = await control.ready_image()
        tokens = await control.people(ACCOUNTS)
        await rent_all(control, tokens, image)
        converged = await converge(control)
        before = control.cpu_seconds()
        await asyncio.sleep(20)
        after = control.cpu_seconds()
        for part, seconds in after.items():
            say(f"at rest {part}: {(seconds - before[part]) / 20:.2f} cores")
        for part, mib in control.memory_by_part().items():
            say(f"memory {part}: {mib:.0f} MiB")
        tell("fleet_converge_s", converged, "s", SLOWEST_START_S)
        tell("fleet_memory_mib", control.memory_mib(), "MiB", empty)
        seen, settled = await lose(control)
        tell("node_loss_seen_s", seen, "s", SILENT_AFTER_S)
        tell("node_loss_settled_s", settled, "s", LOST_AFTER_S)


if __name__ == "__main__":
    asyncio.run(main())
