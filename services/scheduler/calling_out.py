"""One effect and one answer for a request that must ask other services first.

Network calls happen with no transaction open; what they reserved is given back when the effect
is refused. After an unknown commit it is not: market's hold and registry's row end by themselves.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.models import Instance
from services.scheduler.repository.instances import Stale
from services.scheduler.repository.nodes import PlacementStale
from shared.database import Database
from shared.errors import DomainError
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


class _NotYet(Exception):
    """No answer is kept under the key."""


async def with_reserved(
    database: Database,
    answering: Answering[M],
    *,
    reserve: Callable[[], Awaitable[R]],
    apply: Callable[[AsyncSession, R], Awaitable[Instance]],
    give_back: Callable[[AsyncSession, R], Awaitable[None]],
) -> M:
    if answering.key is not None:
        try:
            return await _once(database, answering, _not_yet)
        except _NotYet:
            pass
    reserved = await reserve()
    used = False

    async def effect(session: AsyncSession) -> Instance:
        nonlocal used
        used = True
        return await apply(session, reserved)

    try:
        answer = await _retried(database, answering, effect)
    except DomainError:
        used = False
        raise
    finally:
        if not used:
            async with database.transaction() as session:
                await give_back(session, reserved)
    return answer


async def _retried(
    database: Database,
    answering: Answering[M],
    effect: Callable[[AsyncSession], Awaitable[Instance]],
) -> M:
    """A write that met another one starts again from what is true now."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await _once(database, answering, effect)
        except (Stale, PlacementStale):
            continue
    return await _once(database, answering, effect)


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
