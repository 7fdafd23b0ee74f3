"""What auth does by itself. Each copy does all of it: twice changes nothing."""

import asyncio

from services.auth.login import forget_old_sessions
from services.auth.revoking import Revoking
from services.auth.subscribing import Admissions
from shared.database import Database
from shared.revocation import REFRESH_S
from shared.worker import Worker

INTERVAL_S = 3600.0
SETTLE_S = 5.0


def clearing(database: Database) -> Worker:
    async def step() -> None:
        await forget_old_sessions(database)

    return Worker("auth.clearing", INTERVAL_S, step)


def telling(revoking: Revoking) -> Worker:
    return Worker("auth.revocations", REFRESH_S, revoking.tell, revoking.wake)


def settling(admissions: Admissions, wake: asyncio.Event) -> Worker:
    return Worker("auth.subscribers", SETTLE_S, admissions.settle_due, wake)
