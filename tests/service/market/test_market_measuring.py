"""Money shows as gauges."""

from uuid import UUID

from prometheus_client import REGISTRY

from shared.tokens import Role
from tests.service.market.conftest import House


async def test_balances_and_holds_show_as_sums(house: House, payer: UUID) -> None:
    headers = house.identity.headers(role=Role.service)
    answer = await house.http.get("/internal/health", headers=headers)
    assert answer.status_code == 200, answer.text
    figures = answer.json()["database"]["figures"]
    assert figures == {"ledger_faults": 0, "wallets": 1, "wallets_exhausted": 0}
    assert REGISTRY.get_sample_value("chusuan_market_balance_yuan") == 100
    assert REGISTRY.get_sample_value("chusuan_market_held_yuan") == 0
    assert REGISTRY.get_sample_value("chusuan_market_authorisations", {"state": "active"}) == 0
