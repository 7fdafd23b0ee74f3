"""After all of it: is everything that the platform holds true, and did the liars get nowhere?"""

from collections.abc import AsyncIterator
from typing import Any, Final

from bench.fleet.agents import LIE, Personality, personality_of
from bench.fleet.control import Control
from tests.e2e.waiting import until
from tests.fault import invariants

# Of the suite's invariants, those that ask databases alone.
ALWAYS: Final = (
    invariants.devices_are_promised_once,
    invariants.moves_follow_the_table,
    invariants.the_ledger_sums,
    invariants.holds_are_covered,
    invariants.bills_are_exact,
)
TOLD_WITHIN_S = 60.0


def nodes_of(control: Control, *kinds: Personality) -> list[str]:
    return [
        node["node_id"]
        for number, node in enumerate(control.credentials)
        if personality_of(number) in kinds
    ]


async def untrue(control: Control) -> list[str]:
    """Sentences; none is the answer that is wanted."""
    # They know it as a platform under test, and use of it what `Control` has.
    platform: Any = control

    async def told() -> bool:
        return not [what async for what in invariants.everything_is_told(platform)]

    try:
        await until(told, timeout_s=TOLD_WITHIN_S, what="everything is told")
    except TimeoutError:
        left = [what async for what in invariants.everything_is_told(platform)]
    else:
        left = []
    checks = (*(check(platform) for check in ALWAYS), _liars(control), _instances(control))
    return left + [what for check in checks async for what in check]


async def _liars(control: Control) -> AsyncIterator[str]:
    liars = nodes_of(control, Personality.lying)
    if liars and not control.parts["scheduler"].log().count("report_of_another"):
        yield "no liar spoke for another node: there was nothing to withstand"
    for row in await control.ask("scheduler", "SELECT name FROM nodes WHERE boot_id = $1", LIE):
        yield f"a liar spoke for {row['name']}"
    question = (
        "SELECT node_name, started_at FROM authorisations"
        " WHERE started_at < created_at - interval '1 minute'"
    )
    for row in await control.ask("market", question):
        yield f"{row['node_name']} is billed from {row['started_at']}"
    question = "SELECT name, state FROM nodes WHERE id = ANY($1::uuid[]) AND state <> 'online'"
    for row in await control.ask("scheduler", question, liars):
        yield f"the liar {row['name']} is {row['state']}"


async def _instances(control: Control) -> AsyncIterator[str]:
    """Each runs, but where its host's personality or loss forbids it."""
    troubled = nodes_of(control, Personality.never, Personality.dying)
    question = (
        "SELECT n.name, i.state, count(*) AS n FROM instances i JOIN nodes n ON n.id = i.node_id"
        " WHERE i.state <> 'running' AND n.state <> 'lost' AND NOT n.id = ANY($1::uuid[])"
        " GROUP BY 1, 2"
    )
    for row in await control.ask("scheduler", question, troubled):
        yield f"{row['n']} instances on {row['name']} are {row['state']}"
    question = (
        "SELECT n.name, count(*) AS n FROM instances i JOIN nodes n ON n.id = i.node_id"
        " WHERE i.state IN ('running', 'starting') AND n.id = ANY($1::uuid[]) GROUP BY 1"
    )
    for row in await control.ask("scheduler", question, nodes_of(control, Personality.never)):
        yield f"{row['n']} instances run on {row['name']}, whose starts never end"
    for _ in await control.ask("scheduler", "SELECT 1 FROM breaker WHERE opened_at IS NOT NULL"):
        yield "the breaker is open"
    if "breaker_opened" in control.parts["scheduler"].log():
        yield "the breaker was open"
