"""What the image centre hears: ends of saves, and builders' reports."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import building, saving
from services.registry.tools import Tools
from shared.bus import Keeping, Subscription
from shared.crashing import doing
from shared.events import Envelope
from shared.events.agent import ImageReported
from shared.events.scheduler import InstanceSaved, InstanceSaveFailed
from shared.inbox import consume, on


def saves(tools: Tools) -> Subscription:
    async def saved(session: AsyncSession, event: InstanceSaved, _: Envelope) -> None:
        await saving.finish(session, event)

    async def failed(session: AsyncSession, event: InstanceSaveFailed, _: Envelope) -> None:
        await saving.fail(session, event)

    return consume(
        tools.database,
        "registry.saves",
        on(InstanceSaved, saved),
        on(InstanceSaveFailed, failed),
    )


def reports(tools: Tools) -> Subscription:
    """Builders report whole states without an outbox, so nothing is remembered of a message."""

    async def take(envelope: Envelope) -> None:
        with doing(lambda: "registry.reports"):
            async with tools.database.transaction() as session:
                report = ImageReported.model_validate(envelope.data)
                await building.take_report(session, tools, report, envelope.source)

    return Subscription("registry.reports", (ImageReported.type,), take, keeping=Keeping.states)
