"""The scheduler's client of the market, against the real market."""

import pytest

from services.scheduler.clients.market import HttpMarket, StartRequest
from shared.clock import utc_now
from shared.http import RemoteRefusal
from shared.ids import new_id
from tests.service.market.conftest import House, house, open_house

__all__ = ["house", "open_house"]


def start(house: House, **changes: object) -> StartRequest:
    values = {
        "authorisation_id": new_id(), "instance_id": new_id(), "node_id": house.host_id,
        "gpu_count": 2, "mode": "gpu", **changes,
    }  # fmt: skip
    return StartRequest(**values)  # type: ignore[arg-type]  # changes are a test's own


async def test_a_start_is_authorised_and_repeating_it_changes_nothing(house: House) -> None:
    account, market = await house.account("10"), HttpMarket(house.http)
    wish, token = start(house), house.identity.token(account)
    answer = await market.authorise(wish, token=token)
    assert (answer.id, str(answer.price_per_hour)) == (wish.authorisation_id, "3.7600")
    assert answer.paid_until is not None
    # 10 元 at 3.76 an hour.
    assert abs((answer.paid_until - utc_now()).total_seconds() - 9574) < 60
    again = await market.authorise(wish, token=token)
    assert (again.id, again.price_per_hour) == (answer.id, answer.price_per_hour)
    assert [str(amount) for amount in await house.wallet(account)] == [
        "10.0000",
        "3.7600",
        "6.2400",
    ]


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"gpu_count": 9}, 402, "insufficient_balance", None),
        ({"node_id": new_id()}, 404, "offer_not_found", "node_id"),
        ({"mode": "tpu"}, 422, "invalid", "mode"),
    ],
)
async def test_a_refusal_reaches_the_scheduler_with_its_code_field_and_words(
    house: House, changes: dict[str, object], status: int, code: str, field: str | None
) -> None:
    account = await house.account("10")
    with pytest.raises(RemoteRefusal) as refusal:
        await HttpMarket(house.http).authorise(
            start(house, **changes), token=house.identity.token(account)
        )
    error = refusal.value
    assert (error.status, error.code, error.field) == (status, code, field)
    assert error.render_detail("zh")


async def test_another_start_under_a_known_id_is_a_conflict(house: House) -> None:
    account, market = await house.account("10"), HttpMarket(house.http)
    wish, token = start(house), house.identity.token(account)
    await market.authorise(wish, token=token)
    with pytest.raises(RemoteRefusal) as refusal:
        await market.authorise(start(house, authorisation_id=wish.authorisation_id), token=token)
    assert refusal.value.status == 409
