"""What happens by itself: debits on the hour, watching balances, ending holds, checking sums."""

from functools import partial

from services.market.authorising import expire_all
from services.market.metering import settle_hours
from services.market.tools import Tools
from services.market.verifying import verify_ledger
from services.market.watching import watch_balances
from shared.outbox import forget_published
from shared.worker import Worker

CLEARING_S = 3600.0


def workers(tools: Tools) -> list[Worker]:
    settings = tools.settings

    async def verify() -> None:
        await verify_ledger(tools)

    async def clear() -> None:
        async with tools.database.transaction() as session:
            await forget_published(session)

    return [
        Worker("market.hours", settings.settle_s, partial(settle_hours, tools)),
        Worker("market.balances", settings.watch_s, partial(watch_balances, tools)),
        Worker("market.expiry", settings.expiry_s, partial(expire_all, tools)),
        Worker("market.ledger", settings.verify_s, verify),
        Worker("market.clearing", CLEARING_S, clear),
    ]
