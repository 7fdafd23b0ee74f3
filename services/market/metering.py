"""Running time becomes debits: on each clock hour, and at the stop.

Facts may come doubled and in any order: each handler looks at the row and does what is missing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.authorising import UnknownAuthorisation, locked, move
from services.market.booking import Reason, book, hold, secure
from services.market.domain.authorisation import FINAL, AuthorisationState
from services.market.domain.metering import (
    ZERO,
    debit_due,
    final_difference,
    floor_hour,
    payable_until,
    whole_seconds,
)
from services.market.models import INCOME, Authorisation, Wallet
from services.market.repository import authorisations as promises
from services.market.repository import wallets
from services.market.tools import Tools
from shared.clock import utc_now
from shared.events.scheduler import InstanceResumed
from shared.ids import short_name

log = structlog.get_logger(__name__)

# What stays the same when a run goes on.
_TERMS = (
    "account_id", "instance_id", "node_id", "node_name", "gpu_model", "gpu_count", "mode",
    "price_per_hour",
)  # fmt: skip


async def note_start(session: AsyncSession, authorisation_id: UUID, started_at: datetime) -> None:
    """Billed from here on, also when its hold had expired. Raises UnknownAuthorisation."""
    wallet, authorisation = await locked(session, authorisation_id)
    state = AuthorisationState(authorisation.state)
    if state is AuthorisationState.void:
        _contradicted(authorisation, "started after its start was abandoned: not billed")
    if state in FINAL or state is AuthorisationState.active:
        return
    await _activate(session, wallet, authorisation, started_at)


async def _activate(
    session: AsyncSession, wallet: Wallet, authorisation: Authorisation, started_at: datetime
) -> None:
    held_an_hour = authorisation.state == AuthorisationState.open and authorisation.held > 0
    authorisation.started_at = started_at
    authorisation.billed_until = started_at
    proven = authorisation.proven_until
    authorisation.proven_until = started_at if proven is None else max(proven, started_at)
    move(authorisation, AuthorisationState.active)
    if not held_an_hour:
        secure(wallet, authorisation)
    if authorisation.stopped_at is not None:
        await _close(session, wallet, authorisation, started_at, authorisation.stopped_at)


async def note_resume(session: AsyncSession, run: InstanceResumed, lives_s: float) -> None:
    """A run that was settled when its host was lost goes on, on the old one's terms and wallet.
    What its hour costs is held as far as the money reaches: it runs, so it is billed. lives_s: of
    an authorisation before its start. Raises UnknownAuthorisation."""
    wallet, old = await locked(session, run.old_authorisation_id)
    now = utc_now()
    values = {
        "id": run.authorisation_id,
        "state": AuthorisationState.open.value,
        "held": ZERO,
        "billed": ZERO,
        "created_at": now,
        "expires_at": now + timedelta(seconds=lives_s),
        "stopped_at": await promises.take_early_stop(session, run.authorisation_id),
        **{name: getattr(old, name) for name in _TERMS},
    }
    if not await promises.add(session, values):
        return
    made = await promises.find(session, run.authorisation_id, lock=True)
    if made is None:
        raise LookupError(f"authorisation {run.authorisation_id} was made and is not there")
    wallet.exhausted_told_at = None
    await _activate(session, wallet, made, run.started_at)


async def note_stop(
    session: AsyncSession, authorisation_id: UUID, stopped_at: datetime, instance_id: UUID
) -> None:
    """The final settlement; where the start is not known yet, it waits for it. Raises
    UnknownAuthorisation."""
    try:
        wallet, authorisation = await locked(session, authorisation_id)
    except UnknownAuthorisation:
        # Of an instance that we know it can only be a run whose going on is yet to be told.
        if not await promises.knows_instance(session, instance_id):
            raise
        return await promises.keep_early_stop(session, authorisation_id, stopped_at)
    state = AuthorisationState(authorisation.state)
    if state is AuthorisationState.void:
        _contradicted(authorisation, "stopped after its start was abandoned: not billed")
    if state in FINAL:
        return None
    if authorisation.stopped_at is None:
        authorisation.stopped_at = stopped_at
    if authorisation.started_at is not None:
        await _close(
            session, wallet, authorisation, authorisation.started_at, authorisation.stopped_at
        )
    return None


async def note_abandoned(session: AsyncSession, authorisation_id: UUID) -> None:
    """It never ran: the hold goes back, if there ever was one."""
    try:
        wallet, authorisation = await locked(session, authorisation_id)
    except UnknownAuthorisation:
        # The scheduler gives back what it was about to ask for, too.
        log.info("abandoned_unasked", authorisation_id=str(authorisation_id))
        return None
    if authorisation.started_at is not None:
        return _contradicted(authorisation, "abandoned after it started: its stop will settle it")
    if authorisation.state in FINAL:
        return None
    move(authorisation, AuthorisationState.void)
    hold(wallet, authorisation, ZERO)
    return None


async def note_proof(session: AsyncSession, ids: Sequence[UUID], until: datetime) -> None:
    """Seen running until then, by the agent's report. It may come before the start is known; an
    older proof, or one of what is over, changes nothing."""
    await promises.prove(session, ids, until)


async def settle_hours(tools: Tools) -> None:
    """One pass over all that runs; each in a transaction of its own."""
    now = utc_now()
    hour = floor_hour(now)
    grace = timedelta(seconds=tools.settings.hour_grace_s)
    async with tools.database.transaction() as session:
        due = await promises.ids_payable(session, hour, late=now >= hour + grace)
    for authorisation_id in due:
        try:
            async with tools.database.transaction() as session:
                await settle_hour(session, authorisation_id, now, grace)
        except Exception:
            log.exception("settlement_failed", authorisation_id=str(authorisation_id))


async def settle_hour(
    session: AsyncSession, authorisation_id: UUID, now: datetime, grace: timedelta
) -> None:
    """Debits what is proven up to the last clock hour before `now`; nothing when that is done."""
    wallet, authorisation = await locked(session, authorisation_id)
    started, proven = authorisation.started_at, authorisation.proven_until
    if authorisation.state != AuthorisationState.active or started is None or proven is None:
        return
    until = payable_until(proven, now, grace)
    if until is None or (authorisation.billed_until or started) >= until:
        return
    seconds = whole_seconds(started, until)
    amount = debit_due(authorisation.price_per_hour, seconds, authorisation.billed)
    if amount > 0:
        reason = Reason("usage", _note(authorisation, seconds), authorisation.id, until)
        await book(session, wallet, -amount, INCOME, reason)
        authorisation.billed += amount
    authorisation.billed_until = until
    secure(wallet, authorisation)


async def _close(
    session: AsyncSession,
    wallet: Wallet,
    authorisation: Authorisation,
    started_at: datetime,
    stopped_at: datetime,
) -> None:
    """Up to the stop, which proves itself; time after it that was billed goes back."""
    seconds = whole_seconds(started_at, stopped_at)
    amount = final_difference(authorisation.price_per_hour, seconds, authorisation.billed)
    note = _note(authorisation, seconds)
    if amount > 0:
        reason = Reason("usage", note, authorisation.id, max(started_at, stopped_at))
        await book(session, wallet, -amount, INCOME, reason)
    elif amount < 0:
        original = await wallets.newest_debit(session, authorisation.id)
        reason = Reason("correction", note, authorisation.id, corrects_id=original)
        await book(session, wallet, -amount, INCOME, reason)
    authorisation.billed += amount
    authorisation.billed_until = max(started_at, stopped_at)
    move(authorisation, AuthorisationState.closed)
    hold(wallet, authorisation, ZERO)


def _note(authorisation: Authorisation, seconds: int) -> str:
    """Numbers and names alone, so that it reads in every language."""
    cards = "CPU" if authorisation.mode == "cpu" else f"{authorisation.gpu_count} GPU"
    name = short_name(authorisation.instance_id)
    return f"{name} · {authorisation.node_name} · {cards} · {seconds} s"


def _contradicted(authorisation: Authorisation, what: str) -> None:
    log.error("facts_contradict", authorisation_id=str(authorisation.id), what=what)
