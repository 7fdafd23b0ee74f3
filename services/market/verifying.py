"""I8 in production: every balance is the sum of its entries, and all accounts sum to zero."""

import structlog
from prometheus_client import Gauge

from services.market.repository import wallets
from services.market.tools import Tools

log = structlog.get_logger(__name__)

LEDGER_FAULTS = Gauge(
    "chusuan_market_ledger_faults", "Sums in the ledger that are not what they must be"
)


async def verify_ledger(tools: Tools) -> int:
    """How many sums are wrong; each is an error in the log, and the number a metric."""
    async with tools.database.transaction() as session:
        faults = await wallets.ledger_faults(session)
    for fault in faults:
        log.error("ledger_broken", **{name: str(value) for name, value in fault.items()})
    LEDGER_FAULTS.set(len(faults))
    return len(faults)
