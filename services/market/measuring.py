"""Money as gauges, and as figures for whoever asks how the platform is."""

from collections.abc import Mapping

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.domain.authorisation import AuthorisationState
from services.market.repository import authorisations, wallets
from services.market.verifying import LEDGER_FAULTS
from shared.clock import utc_now

WALLETS = Gauge("chusuan_market_wallets", "Wallets")
BALANCE = Gauge("chusuan_market_balance_yuan", "Sum of all balances")
HELD = Gauge("chusuan_market_held_yuan", "Sum of all holds")
EXHAUSTED = Gauge("chusuan_market_exhausted_wallets", "Told to be empty while something runs")
AUTHORISATIONS = Gauge("chusuan_market_authorisations", "By state", ("state",))
UNPROVEN = Gauge(
    "chusuan_market_unproven_seconds",
    "Since the last proof of the running authorisation that was proven longest ago; 0: none runs",
)


async def figures(session: AsyncSession) -> Mapping[str, float]:
    """The ledger's faults as they were checked last."""
    sums = await wallets.sums(session)
    WALLETS.set(sums.count)
    BALANCE.set(float(sums.balance))
    HELD.set(float(sums.held))
    EXHAUSTED.set(sums.exhausted)
    by_state = await authorisations.count_by_state(session)
    for state in AuthorisationState:
        AUTHORISATIONS.labels(state.value).set(by_state.get(state.value, 0))
    proven = await authorisations.proven_longest_ago(session)
    UNPROVEN.set(max(0.0, (utc_now() - proven).total_seconds()) if proven is not None else 0.0)
    faults = next(iter(LEDGER_FAULTS.collect())).samples[0].value
    return {"ledger_faults": faults, "wallets": sums.count, "wallets_exhausted": sums.exhausted}
