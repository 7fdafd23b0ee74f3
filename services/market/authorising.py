"""A start is promised to be paid: its price fixed, an hour of it held."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.booking import hold, lock_wallet
from services.market.domain.authorisation import AuthorisationState, require_move
from services.market.domain.metering import ZERO
from services.market.domain.pricing import instance_price
from services.market.domain.wallet import available
from services.market.errors import (
    AuthorisationReused,
    HostNotOffered,
    InsufficientBalance,
    UnknownHost,
)
from services.market.models import Authorisation, Wallet
from services.market.repository import authorisations as promises
from services.market.repository import hosts
from services.market.tools import Tools
from shared.clock import utc_now

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """What is to be paid. gpu_count: the wanted cards, in no-card mode too."""

    id: UUID
    instance_id: UUID
    node_id: UUID
    gpu_count: int
    mode: Literal["gpu", "cpu"]


async def authorise(
    session: AsyncSession, tools: Tools, payer: UUID, start: Start
) -> Authorisation:
    """Repeating it changes nothing. Raises AuthorisationReused, UnknownHost, HostNotOffered,
    InsufficientBalance."""
    wallet = await lock_wallet(session, payer)
    known = await promises.find(session, start.id)
    if known is None:
        return await _promise(session, tools, wallet, start)
    if known.account_id != payer or _start_of(known) != start:
        raise AuthorisationReused(field="id")
    return known


def _start_of(known: Authorisation) -> Start:
    mode: Literal["gpu", "cpu"] = "gpu" if known.mode == "gpu" else "cpu"
    return Start(known.id, known.instance_id, known.node_id, known.gpu_count, mode)


async def _promise(
    session: AsyncSession, tools: Tools, wallet: Wallet, start: Start
) -> Authorisation:
    priced = await hosts.find_priced(session, tools.settings, start.node_id)
    if priced is None:
        raise UnknownHost(field="node_id")
    # A draining host takes nothing new, as the scheduler sees to; a restart there is paid.
    if priced.host.state not in ("online", "draining"):
        raise HostNotOffered(field="node_id")
    price = instance_price(priced.price, start.mode, start.gpu_count)
    spendable = available(wallet.balance, wallet.held)
    if spendable < price:
        raise InsufficientBalance(available=str(spendable), needed=str(price))
    now = utc_now()
    values = {
        "id": start.id,
        "account_id": wallet.account_id,
        "instance_id": start.instance_id,
        "node_id": start.node_id,
        "node_name": priced.host.name,
        "gpu_model": priced.host.gpu_model,
        "gpu_count": start.gpu_count,
        "mode": start.mode,
        "price_per_hour": price,
        "state": AuthorisationState.open.value,
        "held": ZERO,
        "billed": ZERO,
        "created_at": now,
        "expires_at": now + timedelta(seconds=tools.settings.authorisation_lives_s),
    }
    # Another payer's request with the same id may be under way beside this one.
    if not await promises.add(session, values):
        raise AuthorisationReused(field="id")
    made = await promises.find(session, start.id, lock=True)
    if made is None:
        raise LookupError(f"authorisation {start.id} was made and is not there")
    hold(wallet, made, price)
    wallet.exhausted_told_at = None
    log.info("start_authorised", authorisation_id=str(made.id), price_per_hour=str(price))
    return made


async def expire_all(tools: Tools) -> None:
    """Holds of starts that never came go back; each in a transaction of its own."""
    async with tools.database.transaction() as session:
        due = await promises.ids_expired(session, utc_now())
    for authorisation_id in due:
        try:
            async with tools.database.transaction() as session:
                await _expire(session, authorisation_id)
        except Exception:
            log.exception("expiry_failed", authorisation_id=str(authorisation_id))


async def _expire(session: AsyncSession, authorisation_id: UUID) -> None:
    wallet, authorisation = await locked(session, authorisation_id)
    if authorisation.state != AuthorisationState.open:
        return
    move(authorisation, AuthorisationState.expired)
    hold(wallet, authorisation, ZERO)


class UnknownAuthorisation(LookupError):
    """Something was told of an authorisation that was never given: kept as a dead letter."""


async def locked(session: AsyncSession, authorisation_id: UUID) -> tuple[Wallet, Authorisation]:
    """Wallet and authorisation with their locks. Raises UnknownAuthorisation."""
    owner = await promises.owner_of(session, authorisation_id)
    if owner is None:
        raise UnknownAuthorisation(str(authorisation_id))
    wallet = await lock_wallet(session, owner)
    authorisation = await promises.find(session, authorisation_id, lock=True)
    if authorisation is None:
        raise UnknownAuthorisation(str(authorisation_id))
    return wallet, authorisation


def move(authorisation: Authorisation, target: AuthorisationState) -> None:
    """Needs its lock. Raises IllegalTransition."""
    source = AuthorisationState(authorisation.state)
    require_move(source, target)
    authorisation.state = target.value
    log.info(
        "authorisation_moved", authorisation_id=str(authorisation.id), source=source.value,
        target=target.value,
    )  # fmt: skip
