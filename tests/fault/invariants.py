"""The invariants of the house, asked of the databases, of Docker and of the agents' journals.

`broken` may be asked at any moment, also while faults act; `settles` waits for what must be once
they have stopped. Each check answers sentences; none is the answer that is wanted.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

from agent.docker import parse_time
from agent.engine import LABEL_GENERATION, LABEL_INSTANCE, LABEL_NODE
from agent.journal import Entry
from services.market.domain.metering import total_due, whole_seconds
from services.scheduler.domain.states import State, may_move
from shared.bus import matches
from tests.e2e.waiting import until
from tests.fault.topology import Row, Topology, docker

Check = Callable[[Topology], AsyncIterator[str]]
QUIET_WITHIN_S = 45.0

# Who must have had the effect of which facts; not those that remember none.
CONSUMERS = {
    "market.offers": ("market", ["scheduler.node.changed"]),
    "market.runs": (
        "market",
        [f"scheduler.instance.{n}" for n in ("started", "stopped", "resumed", "start_abandoned")],
    ),
    "market.proofs": ("market", ["scheduler.usage.proven"]),
    "market.wallets": ("market", ["auth.account.approved"]),
    "scheduler.ssh_keys": ("scheduler", ["auth.ssh_key.added", "auth.ssh_key.removed"]),
    "scheduler.stops": ("scheduler", ["market.wallet.exhausted", "auth.account.disabled"]),
    "registry.saves": ("registry", [f"scheduler.instance.{n}" for n in ("saved", "save_failed")]),
    "storage.volumes": ("storage", ["auth.account.approved"]),
    "auth.audit": ("auth", ["auth.#", "scheduler.instance.*", "market.*.*"]),
}


async def broken(topology: Topology) -> list[str]:
    return await _all(topology, SAFETY)


async def _all(topology: Topology, checks: tuple[Check, ...]) -> list[str]:
    return [f"{check.__name__}: {what}" for check in checks async for what in check(topology)]


async def settles(topology: Topology, *, alone: bool = True) -> None:
    """Faults have stopped: the platform comes to rest by itself, and nothing is broken. alone:
    nobody else's containers write on its net disk. Raises AssertionError with all that is wrong."""
    checks = (*REST, quota_is_what_lies_on_disk) if alone else REST
    left: list[str] = []

    async def quiet() -> bool:
        left[:] = await _all(topology, checks)
        return not left

    try:
        await until(quiet, timeout_s=QUIET_WITHIN_S, what="everything has come to rest")
    except TimeoutError as late:
        raise AssertionError(f"{late}: {left}") from None
    assert await broken(topology) == []


# ── Safety ────────────────────────────────────────────────────────────────────────────────────


async def devices_are_promised_once(topology: Topology) -> AsyncIterator[str]:
    """I1, in the database: the counter is the sum of its rows, and never above one device."""
    for row in await topology.ask(
        "scheduler",
        "SELECT g.uuid, g.promised_milli, coalesce(sum(p.milli), 0) AS kept FROM gpus g"
        " LEFT JOIN promises p ON p.node_id = g.node_id AND p.gpu_uuid = g.uuid"
        " GROUP BY g.node_id, g.uuid, g.promised_milli"
        " HAVING g.promised_milli <> coalesce(sum(p.milli), 0) OR g.promised_milli > 1000",
    ):
        yield f"{row['uuid']} has {row['promised_milli']}, its rows {row['kept']}"


async def no_host_runs_more_cards_than_it_has(topology: Topology) -> AsyncIterator[str]:
    """I1, by Docker's word; I6: one running container for an instance."""
    used: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for shown in await topology.containers():
        if not shown["State"]["Running"]:
            continue
        labels = shown["Config"]["Labels"]
        running[labels[LABEL_INSTANCE]] += 1
        for word in shown["Config"]["Env"]:
            name, _, value = word.partition("=")
            if name == "CHUSUAN_SIMULATED_GPUS" and value:
                used[labels[LABEL_NODE]] += int(value)
    for instance, count in running.items():
        if count > 1:
            yield f"instance {instance} runs in {count} containers"
    rows = await topology.ask(
        "scheduler", "SELECT node_id, count(*) AS cards FROM gpus GROUP BY node_id"
    )
    has = {str(row["node_id"]): row["cards"] for row in rows}
    for node, count in used.items():
        if count > has.get(node, 0):
            yield f"host {node} has {has.get(node)} cards, its containers {count}"


async def _histories(topology: Topology) -> dict[Any, list[Row]]:
    rows = await topology.ask(
        "scheduler",
        "SELECT h.*, i.state FROM instance_history h JOIN instances i ON i.id = h.instance_id"
        " ORDER BY h.id",
    )
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["instance_id"]].append(row)
    return found


async def moves_follow_the_table(topology: Topology) -> AsyncIterator[str]:
    """I4: every edge is declared, every move has one row, generations only rise."""
    for instance, moves in (await _histories(topology)).items():
        for before, after in pairwise(moves):
            if before["to_state"] != after["from_state"]:
                yield f"{instance}: {before['to_state']} then from {after['from_state']}"
            if after["generation"] < before["generation"]:
                yield f"{instance}: generation {before['generation']} → {after['generation']}"
        for move in moves:
            source, target = move["from_state"], move["to_state"]
            if source and source != target and not may_move(State(source), State(target)):
                yield f"{instance}: {source} → {target}"
        if moves[-1]["to_state"] != moves[-1]["state"]:
            yield f"{instance}: is {moves[-1]['state']}, history ends in {moves[-1]['to_state']}"


async def what_was_asked_to_end_stays_ended(topology: Topology) -> AsyncIterator[str]:
    """I5: after a stop only a new wish starts it, after a release nothing does."""
    up = {"queued", "creating", "starting", "running"}
    for instance, moves in (await _histories(topology)).items():
        ended = ""
        for move in moves:
            cause = move["cause"]
            if cause.startswith("release:"):
                ended = "release"
            elif cause.startswith("stop:"):
                ended = ended or "stop"
            elif cause in ("start", "restart", "rent") and ended == "stop":
                ended = ""
            elif ended and move["to_state"] in up and move["to_state"] != move["from_state"]:
                yield f"{instance}: {move['to_state']} by {cause} after a {ended}"


async def the_ledger_sums(topology: Topology) -> AsyncIterator[str]:
    """I8."""
    for row in await topology.ask(
        "market", "SELECT sum(amount) AS total FROM ledger_entries HAVING sum(amount) <> 0"
    ):
        yield f"all accounts together have {row['total']}"
    for row in await topology.ask(
        "market",
        "SELECT w.account_id, w.balance, coalesce(sum(e.amount), 0) AS entries FROM wallets w"
        " LEFT JOIN ledger_entries e ON e.ledger_account_id = w.account_id"
        " GROUP BY w.account_id, w.balance HAVING w.balance <> coalesce(sum(e.amount), 0)",
    ):
        yield f"wallet {row['account_id']} has {row['balance']}, its entries {row['entries']}"
    for row in await topology.ask(
        "market",
        "SELECT transaction_id FROM ledger_entries GROUP BY 1"
        " HAVING sum(amount) <> 0 OR count(*) < 2",
    ):
        yield f"transaction {row['transaction_id']} does not balance"


async def holds_are_covered(topology: Topology) -> AsyncIterator[str]:
    """I12."""
    for row in await topology.ask(
        "market",
        "SELECT w.account_id, w.balance, w.held, coalesce(sum(a.held), 0) AS parts FROM wallets w"
        " LEFT JOIN authorisations a USING (account_id) GROUP BY w.account_id, w.balance, w.held"
        " HAVING w.held <> coalesce(sum(a.held), 0) OR (w.held > 0 AND w.held > w.balance)",
    ):
        yield f"{row['account_id']} has {row['balance']}, holds {row['held']} = {row['parts']}?"


async def bills_are_exact(topology: Topology) -> AsyncIterator[str]:
    """I10: no interval of an instance overlaps another, each costs what its seconds cost."""
    rows = await topology.ask(
        "market",
        "SELECT a.*, coalesce((SELECT -sum(e.amount) FROM ledger_transactions t"
        "  JOIN ledger_entries e ON e.transaction_id = t.id"
        "   AND e.ledger_account_id = a.account_id"
        "  WHERE t.authorisation_id = a.id), 0) AS debited"
        " FROM authorisations a WHERE a.started_at IS NOT NULL"
        " ORDER BY a.instance_id, a.started_at",
    )
    for row in rows:
        if row["debited"] != row["billed"]:
            yield f"run {row['id']} says {row['billed']}, its debits {row['debited']}"
        if row["state"] == "closed":
            seconds = whole_seconds(row["started_at"], row["stopped_at"])
            due = total_due(row["price_per_hour"], seconds)
            if row["billed"] != due:
                yield f"run {row['id']} of {seconds} s costs {due}, billed {row['billed']}"
    for before, after in pairwise(rows):
        if before["instance_id"] != after["instance_id"]:
            continue
        if before["stopped_at"] is None and before["state"] == "active":
            # Its stop is on the way; the market hears in the order of the instance.
            continue
        if before["stopped_at"] > after["started_at"]:
            yield f"runs {before['id']} and {after['id']} overlap"


SAFETY: tuple[Check, ...] = (
    devices_are_promised_once,
    no_host_runs_more_cards_than_it_has,
    moves_follow_the_table,
    what_was_asked_to_end_stays_ended,
    the_ledger_sums,
    holds_are_covered,
    bills_are_exact,
)


# ── At rest ───────────────────────────────────────────────────────────────────────────────────


async def everything_is_told(topology: Topology) -> AsyncIterator[str]:
    """I21, I22: outboxes and dead letters are empty."""
    for service in topology.services:
        for row in await topology.ask(
            service, "SELECT envelope ->> 'type' AS type FROM outbox WHERE published_at IS NULL"
        ):
            yield f"{service} has not told {row['type']}"
        for row in await topology.ask(service, "SELECT consumer, type, error FROM dead_letters"):
            yield f"{row['consumer']} has parked {row['type']}: {row['error']}"


async def every_event_had_its_effect(topology: Topology) -> AsyncIterator[str]:
    """I21: each consumer knows exactly the events that are for it."""
    told: dict[str, set[Any]] = defaultdict(set)
    for service in topology.services:
        for row in await topology.ask(
            service, "SELECT id, envelope ->> 'type' AS type FROM outbox"
        ):
            told[row["type"]].add(row["id"])
    for consumer, (service, patterns) in CONSUMERS.items():
        if service not in topology.services:
            continue
        question = "SELECT event_id FROM inbox WHERE consumer = $1"
        known = {row["event_id"] for row in await topology.ask(service, question, consumer)}
        meant = {
            event
            for kind, events in told.items()
            if any(matches(pattern, kind) for pattern in patterns)
            for event in events
        }
        if meant - known:
            yield f"{consumer} lacks {len(meant - known)} events"
        if known - meant:
            yield f"{consumer} knows {len(known - meant)} that nobody told"


async def nothing_is_on_its_way(topology: Topology) -> AsyncIterator[str]:
    for row in await topology.ask(
        "scheduler",
        "SELECT id, state, status_reason FROM instances"
        " WHERE state NOT IN ('running', 'stopped', 'released', 'failed')",
    ):
        yield f"instance {row['id']} is {row['state']} ({row['status_reason']})"
    for row in await topology.ask("scheduler", "SELECT id, kind FROM reservations"):
        yield f"{row['kind']} {row['id']} is reserved"
    if "registry" not in topology.services:
        return
    for row in await topology.ask(
        "registry", "SELECT name, status FROM images WHERE kind = 'saved' AND status = 'building'"
    ):
        yield f"image {row['name']} is {row['status']}"
    for row in await topology.ask("storage", "SELECT * FROM volumes WHERE reserved_bytes <> 0"):
        yield f"volume {row['account_id']} has {row['reserved_bytes']} bytes promised"


async def containers_are_what_the_rows_say(topology: Topology) -> AsyncIterator[str]:
    """I2: each container has its instance and each running instance its container; promises stand
    for running instances alone."""
    rows = {
        str(row["id"]): row
        for row in await topology.ask("scheduler", "SELECT id, state, generation FROM instances")
    }
    running = set()
    for shown in await topology.containers():
        labels = shown["Config"]["Labels"]
        instance = labels[LABEL_INSTANCE]
        row = rows.get(instance)
        if row is None or row["state"] == "released":
            yield f"container {shown['Name']} of {row and row['state']} is there"
            continue
        if int(labels[LABEL_GENERATION]) > row["generation"]:
            yield f"container {shown['Name']} is of a later generation than its instance"
        if shown["State"]["Running"]:
            running.add(instance)
    meant = {id_ for id_, row in rows.items() if row["state"] == "running"}
    for id_ in running - meant:
        yield f"{id_} runs and is {rows[id_]['state']}"
    for id_ in meant - running:
        yield f"{id_} does not run and is running"
    for row in await topology.ask(
        "scheduler",
        "SELECT i.id, i.state, i.mode, i.gpu_count, count(p.gpu_uuid) AS held FROM instances i"
        " LEFT JOIN promises p ON p.instance_id = i.id GROUP BY i.id HAVING count(p.gpu_uuid) <>"
        " CASE WHEN i.state = 'running' AND i.mode = 'gpu' THEN i.gpu_count ELSE 0 END",
    ):
        yield f"{row['id']}, {row['state']} in mode {row['mode']}, holds {row['held']} cards"
    for row in await topology.ask(
        "scheduler",
        "SELECT p.port FROM ports p JOIN instances i ON i.id = p.instance_id"
        " WHERE i.state = 'released'",
    ):
        yield f"port {row['port']} belongs to a released instance"


async def money_is_held_for_what_runs(topology: Topology) -> AsyncIterator[str]:
    """I10, I12: an open account of money for each running instance, and for nothing else."""
    rows = await topology.ask(
        "market", "SELECT id, instance_id, state FROM authorisations WHERE state IN"
        " ('open', 'active')",
    )  # fmt: skip
    found = {row["id"]: row for row in rows}
    wanted = {
        row["authorisation_id"]: row["id"]
        for row in await topology.ask(
            "scheduler", "SELECT id, authorisation_id FROM instances WHERE state = 'running'"
        )
    }
    for id_ in found.keys() - wanted.keys():
        yield f"run {id_} is {found[id_]['state']}, and nothing runs by it"
    for id_ in wanted.keys() - found.keys():
        yield f"instance {wanted[id_]} runs by {id_}, which is not open"
    for id_ in found.keys() & wanted.keys():
        if found[id_]["state"] != "active":
            yield f"run {id_} is {found[id_]['state']} while its instance runs"


async def bills_lie_inside_what_agents_saw(topology: Topology) -> AsyncIterator[str]:
    """I10, by the agents' journals and Docker: what is billed of an instance's last run began when
    SSH answered and ended when its container did."""
    tokens = {
        row["start_token"]: row
        for row in await topology.ask(
            "scheduler", "SELECT id, start_token, releasing_at FROM instances"
        )
    }
    finished = {
        shown["Config"]["Labels"][LABEL_INSTANCE]: parse_time(shown["State"]["FinishedAt"])
        for shown in await topology.containers()
        if not shown["State"]["Running"]
    }
    for entry in _journals(topology):
        run, row = entry.run, tokens.get(entry.token)
        if run is None or row is None or run.token != entry.token:
            continue
        by_docker = finished.get(str(entry.instance_id))
        if by_docker is not None and run.began and run.finished_at != by_docker:
            yield f"{entry.instance_id} ended {by_docker} by Docker, {run.finished_at} by journal"
        bill = await topology.ask(
            "market",
            "SELECT started_at, stopped_at FROM authorisations WHERE instance_id = $1"
            " AND started_at IS NOT NULL AND started_at IS DISTINCT FROM stopped_at"
            " ORDER BY started_at DESC LIMIT 1",
            entry.instance_id,
        )
        if not bill or run.started_at is None:
            continue
        ends = [moment for moment in (run.finished_at, row["releasing_at"]) if moment is not None]
        if bill[0]["started_at"] < run.started_at:
            yield f"{entry.instance_id} is billed from before SSH answered"
        if ends and bill[0]["stopped_at"] is not None and bill[0]["stopped_at"] > min(ends):
            yield f"{entry.instance_id} is billed beyond its end"


def _journals(topology: Topology) -> list[Entry]:
    found = []
    for folder in topology.agents:
        for path in (folder / "instances").glob("*.json"):
            found.append(Entry.model_validate_json(path.read_bytes()))
    return found


async def no_leftovers_lie_about(topology: Topology) -> AsyncIterator[str]:
    """Secrets blanked for a save are back, disks of released instances and half uploads gone."""
    for folder in topology.agents:
        for path in (folder / "instances").glob("*.originals"):
            yield f"{path.name} is not put back"
    if "storage" not in topology.services:
        return
    gone = await topology.ask("scheduler", "SELECT id FROM instances WHERE state = 'released'")
    tags = await asyncio.to_thread(
        docker, "images", "--format", "{{.Repository}}", "chusuan-disk/*"
    )
    for row in gone:
        if f"chusuan-disk/{row['id'].hex}" in tags.split():
            yield f"a disk of {row['id']} is left"
    for path in topology.storage.glob("volumes/*/uploads/*"):
        yield f"half an upload is left: {path.name}"


async def quota_is_what_lies_on_disk(topology: Topology) -> AsyncIterator[str]:
    """I15, as far as counting goes: a count comes every minute and after each start."""
    if "storage" not in topology.services:
        return
    for row in await topology.ask("storage", "SELECT account_id, used_bytes FROM volumes"):
        files = topology.storage / "volumes" / str(row["account_id"]) / "files"
        real = sum(path.stat().st_size for path in files.rglob("*") if path.is_file())
        if row["used_bytes"] != real:
            yield f"volume {row['account_id']} has {real} bytes, {row['used_bytes']} on record"


REST: tuple[Check, ...] = (
    everything_is_told,
    every_event_had_its_effect,
    nothing_is_on_its_way,
    containers_are_what_the_rows_say,
    money_is_held_for_what_runs,
    bills_lie_inside_what_agents_saw,
    no_leftovers_lie_about,
)
