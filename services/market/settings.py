"""What the market must be told."""

from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from shared.settings import ServiceSettings


class DefaultPrice(BaseModel):
    """One card, 元 an hour: before the reduction, and what is paid."""

    model_config = ConfigDict(frozen=True)

    list_price_per_hour: Decimal
    price_per_hour: Decimal


def _default(listed: str, paid: str) -> DefaultPrice:
    return DefaultPrice(list_price_per_hour=Decimal(listed), price_per_hour=Decimal(paid))


class MarketSettings(ServiceSettings):
    """default_prices: by GPU model, until an operator sets a price. default_price_per_hour: for
    any other model. no_card_price_per_hour: of a whole instance.
    authorisation_lives_s: a start that has not come by then gives its hold back.
    hour_grace_s: how long after a clock hour its last proof is waited for.
    watch_s: how often it is asked whether balances last; each must last that long again.
    proof_fresh_s: a host whose last proof is older is silent, and its time is not counted on.
    exhausted_again_s: an empty wallet is told again after this, while something still runs.
    verify_s: how often the ledger is checked.
    wallet_patience_s: how long an operator's credit waits for the wallet of an account that was
    approved a moment ago.
    scheduler_url: `unix:/path/to.sock` or `http://host:port`.
    reconcile_s: how often it is asked how runs stand. reconcile_grace_s: a fact that has not come
    for so long is taken for lost.
    """

    scheduler_url: str = "http://scheduler:8000"

    default_prices: dict[str, DefaultPrice] = {  # noqa: RUF012 - pydantic copies it
        "GeForce RTX 4090": _default("2.18", "1.88"),
        "A100 SXM4": _default("6.98", "5.98"),
        "NVIDIA A100-PCIE-40GB": _default("4.48", "3.98"),
    }
    default_price_per_hour: Decimal = Decimal("2.00")
    no_card_price_per_hour: Decimal = Decimal("0.10")
    authorisation_lives_s: float = 86400.0
    expiry_s: float = 60.0
    settle_s: float = 30.0
    hour_grace_s: float = 120.0
    watch_s: float = 60.0
    proof_fresh_s: float = 90.0
    exhausted_again_s: float = 300.0
    verify_s: float = 600.0
    wallet_patience_s: float = 3.0
    reconcile_s: float = 180.0
    reconcile_grace_s: float = 600.0
