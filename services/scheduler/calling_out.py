"""One effect and one answer for a request that must ask other services first.

Network calls happen with no transaction open. What they reserve is on record first (`reserving`):
used with the effect, given back when it is refused, and after a crash found again by its key.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import reserving
from services.scheduler.models import Instance, Reservation
from services.scheduler.repository.instances import Stale
from services.scheduler.repository.nodes import PlacementStale
from services.scheduler.repository.reservations import take
from shared.database import Database
from shared.errors import DomainError, Unavailable
from shared.idempotency import once

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Answering(Generic[M]):
    """Under which key an answer is kept, and how an instance becomes one."""

    owner_id: UUID
    key: str | None
    operation: str
    request: BaseModel
    answer_type: type[M]
    view: Callable[[AsyncSession, Instance], Awaitable[M]]


@dataclass(frozen=True, slots=True)
class Work(Generic[R]):
    """check: raises when the request is refused anyway, before anything is asked of others.
    ask: of another service, under the reservation's id; it may be asked the same twice.
    apply: the effect with what they answered. instance_id: None where it is yet to be."""

    kind: str
    instance_id: UUID | None
    check: Callable[[AsyncSession], Awaitable[None]]
    ask: Callable[[Reservation], Awaitable[R]]
    apply: Callable[[AsyncSession, Reservation, R], Awaitable[Instance]]


class _NotYet(Exception):
    """No answer is kept under the key."""


async def with_reserved(database: Database, answering: Answering[M], work: Work[R]) -> M:
    """Raises what the parts of `work` raise; Unavailable when the request took so long that its
    reservation was given back meanwhile."""
    if answering.key is not None:
        try:
            return await _once(database, answering, _not_yet)
        except _NotYet:
            pass
    async with database.transaction() as session:
        await work.check(session)
    reservation = await reserving.reserve(
        database,
        kind=work.kind,
        owner_id=answering.owner_id,
        operation=answering.operation,
        key=answering.key,
        instance_id=work.instance_id,
    )

    used = False

    async def effect(session: AsyncSession) -> Instance:
        nonlocal used
        if not await take(session, reservation.id):
            raise Unavailable
        used = True
        return await work.apply(session, reservation, reserved)

    try:
        reserved = await work.ask(reservation)
        answer = await _retried(database, answering, effect)
    except DomainError as refusal:
        # Unavailable: the outcome is unknown, and the same request may come again.
        if not isinstance(refusal, Unavailable):
            async with database.transaction() as session:
                await reserving.give_back(session, reservation)
        raise
    if not used:
        # The same request, sent twice at once: the other was quicker.
        async with database.transaction() as session:
            await reserving.give_back(session, reservation)
    return answer


async def _retried(
    database: Database,
    answering: Answering[M],
    effect: Callable[[AsyncSession], Awaitable[Instance]],
) -> M:
    """A write that met another one starts again from what is true now. Raises Unavailable when it
    meets others every time."""
    for _ in range(ATTEMPTS):
        try:
            return await _once(database, answering, effect)
        except (Stale, PlacementStale):
            continue
    raise Unavailable


async def _once(
    database: Database,
    answering: Answering[M],
    effect: Callable[[AsyncSession], Awaitable[Instance]],
) -> M:
    async with database.transaction() as session:

        async def answer() -> M:
            instance = await effect(session)
            await session.flush()
            return await answering.view(session, instance)

        return await once(
            session,
            owner_id=answering.owner_id,
            key=answering.key,
            operation=answering.operation,
            request=answering.request,
            effect=answer,
            answer_type=answering.answer_type,
        )


async def _not_yet(session: AsyncSession) -> Instance:
    raise _NotYet
