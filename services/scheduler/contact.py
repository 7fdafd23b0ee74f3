"""Who is not heard any more: silent, then lost; unless it is rather we who do not hear."""

import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.applying import apply_losses, standing_of
from services.scheduler.domain.contact import Ear, MassLoss
from services.scheduler.domain.loss import lose
from services.scheduler.domain.node_states import NodeState
from services.scheduler.models import Breaker, Instance, Node
from services.scheduler.moving import move_node
from services.scheduler.repository import instances as rows
from services.scheduler.repository import nodes as host
from services.scheduler.telling import tell_state
from services.scheduler.tools import Tools
from shared.clock import utc_now

log = structlog.get_logger(__name__)

BREAKER_OPEN = Gauge(
    "chusuan_scheduler_breaker_open", "1 while so many nodes are silent that none is declared lost"
)
# Silence is told for so many nodes at a time.
LOT = 200
PROBE_S = 5.0


class Contact:
    """One per process: it knows since when this process hears."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        now = time.monotonic()
        self._ear = Ear(since=now, looked=now)

    async def step(self) -> None:
        """One pass. In the order in which it gets worse: who is silent, is it we, who is lost."""
        tools, settings = self._tools, self._tools.settings
        bus_alive = await tools.bus.alive(PROBE_S)
        now = time.monotonic()
        # A pass may take its probe's time; a pause in which we stood still is longer.
        pause_s = PROBE_S + settings.silent_after_s / 2
        self._ear = self._ear.look(now, bus_alive=bus_alive, pause_s=pause_s)
        try:
            await self._judge(now, pause_s)
        except OSError:
            # While the database is away no report is taken: that is as good as hearing none.
            self._ear = Ear(since=time.monotonic(), looked=now)
            raise

    async def _judge(self, now: float, pause_s: float) -> None:
        tools, settings = self._tools, self._tools.settings
        if self._ear.has_listened(now, settings.silent_after_s):
            await silence(tools, utc_now())
        async with tools.database.transaction() as session:
            suspected = await judge_breaker(session, tools, utc_now())
        BREAKER_OPEN.set(suspected)
        # Whatever held us up here has held up reports as well.
        held_up = time.monotonic() - now > pause_s
        if suspected or held_up or not self._ear.has_listened(now, settings.lost_after_s):
            return
        await declare_lost(tools, utc_now())


async def silence(tools: Tools, now: datetime) -> None:
    """Silence is not loss: instances stay as they are, only nothing new is placed."""
    before = now - timedelta(seconds=tools.settings.silent_after_s)
    while True:
        async with tools.database.transaction() as session:
            found = await host.lock_unheard(session, before, LOT)
            for node in found:
                move_node(node, NodeState.silent)
                await tell_state(session, node)
                log.warning("node_silent", node=node.name, heard_at=node.heard_at.isoformat())
        if len(found) < LOT:
            return


async def judge_breaker(session: AsyncSession, tools: Tools, now: datetime) -> bool:
    """Is it open? Opened by many silent at once, closed by their return or by an operator."""
    settings = tools.settings
    breaker = await host.find_breaker(session, lock=True)
    window = timedelta(seconds=settings.breaker_window_s)
    # While it is open, the same nodes count as when it opened.
    since = breaker.counted_from if breaker.opened_at is not None else None
    if since is None:
        since = max(now - window, breaker.closed_at or now - window)
    heard, quiet = await host.count_heard(session, since)
    rule = MassLoss(settings.breaker_share, settings.breaker_least)
    suspected = rule.suspects(heard, quiet)
    if suspected and breaker.opened_at is None:
        breaker.opened_at, breaker.counted_from = now, since
        log.error("breaker_opened", heard=heard, silent=quiet)
    elif not suspected and breaker.opened_at is not None:
        breaker.opened_at = breaker.counted_from = None
        log.warning("breaker_closed", heard=heard, silent=quiet)
    return suspected


async def close_breaker(session: AsyncSession, by: UUID) -> Breaker:
    """An operator's word: who is silent now is lost indeed. Those do not open it again."""
    breaker = await host.find_breaker(session, lock=True)
    breaker.opened_at = breaker.counted_from = None
    breaker.closed_at = utc_now()
    log.warning("breaker_closed_by_hand", by=str(by))
    return breaker


async def declare_lost(tools: Tools, now: datetime) -> None:
    """Each node in a transaction of its own, so that none holds up the others."""
    before = now - timedelta(seconds=tools.settings.lost_after_s)
    async with tools.database.transaction() as session:
        candidates = await host.lost_candidates(session, before)
    for node_id in candidates:
        try:
            async with tools.database.transaction() as session:
                node = await host.find_node(session, node_id, lock=True)
                # It may have come back while the others were looked at.
                if node is None or node.state != NodeState.silent or node.heard_at >= before:
                    continue
                await lose_node(session, tools, node)
        except Exception:
            log.exception("loss_not_settled", node_id=str(node_id))


async def lose_node(session: AsyncSession, tools: Tools, node: Node) -> list[Instance]:
    """What stands there, settled; with its locks. Needs the node's lock and its silence."""
    move_node(node, NodeState.lost)
    node.digest = ""
    found = await rows.lock_on_node(session, node.id)
    judged = (
        (each, lose(standing_of(each, holds_gpus=False), last_seen_running(each, node)))
        for each in found
    )
    losses = [(each, outcome) for each, outcome in judged if outcome is not None]
    await apply_losses(session, tools, losses)
    await tell_state(session, node)
    log.error(
        "node_lost", node=node.name, heard_at=node.heard_at.isoformat(), instances=len(losses)
    )
    return found


def last_seen_running(instance: Instance, node: Node) -> datetime | None:
    """By the agent's clock: the newest report, where that shows it."""
    if instance.start_token in node.running:
        return node.reported_at
    return instance.seen_running_at
