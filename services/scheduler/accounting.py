"""What the market asks of runs, to find what facts it has not heard."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.domain.runs import Running, RunStates
from services.scheduler.repository import runs

# How long the market may be behind.
KEPT = timedelta(days=90)


async def states_of(session: AsyncSession, authorisations: Sequence[UUID]) -> RunStates:
    """As of one moment."""
    # The end is looked for last: one that comes in between is then in both, and counts as ended.
    standing = await runs.standing(session, authorisations)
    ended = await runs.ended(session, authorisations)
    over = {each.authorisation_id for each in ended}
    return RunStates([each for each in standing if each not in over], ended)


async def list_running(session: AsyncSession, after: UUID | None, size: int) -> list[Running]:
    return await runs.running(session, after, size)


async def clear_ends(session: AsyncSession) -> None:
    await runs.forget_ends(session, KEPT)
