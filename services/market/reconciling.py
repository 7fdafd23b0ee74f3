"""What runs and what is billed are compared, for facts of the scheduler may be lost for good: with
a queue at the broker, or as dead letters that somebody dropped.

A run that goes on here and has ended there is settled at the time that the scheduler wrote down, as
its fact would have done. Anything else that differs is reported, and nothing is guessed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from services.market.authorising import locked
from services.market.clients.scheduler import MOST_RUNS, RunEnd, Running
from services.market.domain.authorisation import AuthorisationState
from services.market.metering import note_stop
from services.market.repository import authorisations as promises
from services.market.tools import Tools
from shared.errors import Unavailable

log = structlog.get_logger(__name__)

SETTLED_LATE = Counter(
    "chusuan_market_runs_settled_late",
    "Runs whose end was never told here and was found by asking the scheduler",
)
UNKNOWN = Gauge(
    "chusuan_market_runs_unknown", "Runs that are billed and of which the scheduler knows nothing"
)
UNBILLED = Gauge(
    "chusuan_market_runs_unbilled", "Runs that the scheduler shows and that nobody is billed for"
)
# So often in a row the scheduler may be away before this counts as a failure.
PATIENCE = 3
CURE = "chusuan events dead list; chusuan events retell scheduler --since TIME"


@dataclass(slots=True)
class Reconciling:
    """One per process: it counts how often the scheduler was away."""

    away: int = field(default=0)

    async def run(self, tools: Tools) -> None:
        """One pass. Raises Unavailable when the scheduler has been away too often."""
        try:
            UNKNOWN.set(await settle_ended(tools))
            UNBILLED.set(await find_unbilled(tools))
        except Unavailable:
            self.away += 1
            log.warning("runs_not_compared", times=self.away)
            if self.away >= PATIENCE:
                raise
        else:
            self.away = 0


async def settle_ended(tools: Tools) -> int:
    """How many of those that are billed the scheduler does not know."""
    unknown = 0
    after: UUID | None = None
    while True:
        async with tools.database.transaction() as session:
            page = await promises.active_after(session, after, MOST_RUNS)
        if not page:
            return unknown
        after = page[-1].id
        instances = {run.id: run.instance_id for run in page}
        states = await tools.scheduler.states_of(list(instances))
        for id_, end in states.ended.items():
            if id_ in instances and end.ago_s >= tools.settings.reconcile_grace_s:
                await _settle(tools, id_, instances[id_], end)
        strange = instances.keys() - states.standing - states.ended.keys()
        strange &= await _still_active(tools, strange)
        for id_ in strange:
            log.error("run_unknown", authorisation_id=str(id_), instance_id=str(instances[id_]))
        unknown += len(strange)


async def _settle(tools: Tools, id_: UUID, instance_id: UUID, end: RunEnd) -> None:
    """In a transaction of its own, so that one that fails holds up no other."""
    try:
        async with tools.database.transaction() as session:
            await locked(session, id_)
            # Its fact may have come meanwhile.
            if not await promises.in_state(session, [id_], AuthorisationState.active):
                return
            await note_stop(session, id_, end.stopped_at, instance_id)
    except Exception:
        log.exception("run_not_settled", authorisation_id=str(id_))
        return
    SETTLED_LATE.inc()
    log.error(
        "run_settled_late", authorisation_id=str(id_), instance_id=str(instance_id),
        stopped_at=end.stopped_at.isoformat(), cure=CURE,
    )  # fmt: skip


async def find_unbilled(tools: Tools) -> int:
    """How many run for longer than the grace and are not metered here."""
    unbilled = 0
    after: UUID | None = None
    while True:
        page = await tools.scheduler.running(after)
        if page:
            after = page[-1].authorisation_id
            unbilled += await _count_unbilled(tools, page)
        if len(page) < MOST_RUNS:
            return unbilled


async def _count_unbilled(tools: Tools, page: Sequence[Running]) -> int:
    old = {
        run.authorisation_id: run for run in page if run.for_s >= tools.settings.reconcile_grace_s
    }
    suspects = old.keys() - await _still_active(tools, old.keys())
    if not suspects:
        return 0
    # Asked again: one that ended since the page was read is billed, and over.
    running = (await tools.scheduler.states_of(list(suspects))).standing & suspects
    for id_ in running:
        log.error(
            "run_unbilled", authorisation_id=str(id_), instance_id=str(old[id_].instance_id),
            cure=CURE,
        )  # fmt: skip
    return len(running)


async def _still_active(tools: Tools, ids: Collection[UUID]) -> set[UUID]:
    async with tools.database.transaction() as session:
        return await promises.in_state(session, ids, AuthorisationState.active)
