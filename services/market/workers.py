"""What happens by itself: debits on the hour, watching balances, ending holds, checking sums,
comparing with what runs.

Each in one copy: twice would do no harm, since every item is looked at again under its wallet's
lock, but cost twice as much.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.market.authorising import expire_all
from services.market.metering import settle_hours
from services.market.reconciling import Reconciling
from services.market.tools import Tools
from services.market.verifying import verify_ledger
from services.market.watching import watch_balances
from shared.database import Database
from shared.worker import LoneWorker, Worker


def workers(tools: Tools) -> list[Worker]:
    settings = tools.settings

    def alone(act: Callable[[Tools], Awaitable[object]]) -> Callable[[Database], Awaitable[None]]:
        async def step(database: Database) -> None:
            await act(replace(tools, database=database))

        return step

    return [
        LoneWorker("market.hours", settings.settle_s, alone(settle_hours)),
        LoneWorker("market.balances", settings.watch_s, alone(watch_balances)),
        LoneWorker("market.expiry", settings.expiry_s, alone(expire_all)),
        LoneWorker("market.ledger", settings.verify_s, alone(verify_ledger)),
        LoneWorker("market.reconciling", settings.reconcile_s, alone(Reconciling().run)),
    ]
