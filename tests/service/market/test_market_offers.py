"""Offers are the hosts as last told, priced, filtered and sorted; a full one is not hidden."""

from typing import Any
from uuid import UUID

import pytest

from shared.events.market import PriceChanged
from shared.ids import new_id
from shared.tokens import AccountStatus
from tests.service.market.conftest import House, Json

RTX, SXM, PCIE = "GeForce RTX 4090", "A100 SXM4", "NVIDIA A100-PCIE-40GB"


@pytest.fixture
async def street(house: House) -> dict[str, UUID]:
    """The hosts of the quick start, and one full, one offline, one without a known model."""
    sxm: Json = {"gpu_model": SXM, "gpu_memory_mib": 81920, "gpu_total": 4, "max_cuda": "12.4"}
    pcie: Json = {
        "gpu_model": PCIE,
        "gpu_memory_mib": 40960,
        "region": "yichang-1",
        "max_cuda": "12.2",
    }
    return {
        "rtx": house.host_id,
        "sxm": await house.host(name="sim-a100", gpu_free=3, **sxm),
        "pcie": await house.host(name="sim-pcie", gpu_total=2, gpu_free=2, **pcie),
        "full": await house.host(name="full", gpu_free=0),
        "gone": await house.host(name="gone", state="lost"),
        "odd": await house.host(name="odd", gpu_model="Odd 1", gpu_memory_mib=8192, max_cuda=""),
    }


async def offers(house: House, **query: Any) -> list[Json]:
    account = new_id()
    items: list[Json] = (await house.get(account, "/offers", **query))["items"]
    return items


async def names(house: House, **query: Any) -> list[str]:
    return [o["name"] for o in await offers(house, **query)]


@pytest.mark.usefixtures("street")
async def test_rentable_ones_come_first_then_the_cheapest(house: House) -> None:
    assert [(o["name"], o["price_per_hour"], o["status"]) for o in await offers(house)] == [
        ("sim-4090", "1.8800", "rentable"),
        ("odd", "2.0000", "rentable"),
        ("sim-pcie", "3.9800", "rentable"),
        ("sim-a100", "5.9800", "rentable"),
        ("full", "1.8800", "sold_out"),
        ("gone", "1.8800", "offline"),
    ]


async def test_an_offer_tells_all_that_is_told_of_its_host(house: House) -> None:
    (offer,) = await offers(house)
    assert offer == {
        "id": str(house.host_id), "name": "sim-4090", "region": "wuhan-1", "simulated": True,
        "gpu_model": RTX, "gpu_memory_gb": 24, "gpu_free": 8, "gpu_total": 8,
        "cpu_model": "EPYC", "cpu_cores": 128.0, "cpu_cores_per_gpu": 16.0, "memory_gb": 512,
        "memory_gb_per_gpu": 64, "disk_gb": 4000, "driver_version": "570.124",
        "max_cuda": "12.8", "tflops": 82.6, "list_price_per_hour": "2.1800",
        "price_per_hour": "1.8800", "no_card_price_per_hour": "0.1000", "status": "rentable",
    }  # fmt: skip
    assert await house.get(new_id(), f"/offers/{house.host_id}") == offer


@pytest.mark.usefixtures("street")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"region": "yichang-1"}, ["sim-pcie"]),
        ({"region": "nowhere"}, []),
        ({"model": SXM}, ["sim-a100"]),
        ({"model": [SXM, PCIE]}, ["sim-pcie", "sim-a100"]),
        ({"gpu_memory_min": 40}, ["sim-pcie", "sim-a100"]),
        ({"gpu_memory_min": 24, "gpu_memory_max": 40}, ["sim-4090", "sim-pcie", "full", "gone"]),
        ({"price_min": "2", "price_max": "3.98"}, ["odd", "sim-pcie"]),
        ({"image_cuda": "12.4"}, ["sim-4090", "sim-a100", "full", "gone"]),
        ({"image_cuda": "12.2.2"}, ["sim-4090", "sim-pcie", "sim-a100", "full", "gone"]),
        ({"image_cuda": "13"}, []),
        ({"image_cuda": "", "price_max": "1.99"}, ["sim-4090", "full", "gone"]),
        ({"page": 2, "size": 2}, ["sim-pcie", "sim-a100"]),
    ],
)
async def test_filters_leave_what_fits(house: House, query: Json, found: list[str]) -> None:
    assert await names(house, **query) == found


@pytest.mark.usefixtures("street")
async def test_more_cards_than_are_free_is_sold_out_and_more_than_there_are_is_hidden(
    house: House,
) -> None:
    found = {o["name"]: o["status"] for o in await offers(house, gpu_count=4)}
    assert found == {
        "sim-4090": "rentable", "odd": "rentable", "sim-a100": "sold_out", "full": "sold_out",
        "gone": "offline",
    }  # fmt: skip


async def test_an_older_telling_is_refused(house: House) -> None:
    await house.host(house.host_id, sequence=5, gpu_free=2)
    await house.host(house.host_id, sequence=4, gpu_free=8)
    assert [o["gpu_free"] for o in await offers(house)] == [2]
    await house.host(house.host_id, sequence=6, gpu_free=7)
    assert [o["gpu_free"] for o in await offers(house)] == [7]


@pytest.mark.usefixtures("street")
async def test_the_options_are_what_the_filters_can_choose_from(house: House) -> None:
    options = await house.get(new_id(), "/market/options")
    assert options["regions"] == ["wuhan-1", "yichang-1"]
    assert options["gpu_models"] == [
        {"model": SXM, "free": 3, "total": 4},
        {"model": RTX, "free": 8, "total": 24},
        {"model": PCIE, "free": 2, "total": 2},
        {"model": "Odd 1", "free": 8, "total": 8},
    ]
    assert options["gpu_count"] == {"min": 1, "max": 8}
    assert options["gpu_memory_gb"] == {"min": 8, "max": 80}
    assert options["price_per_hour"] == {"min": "1.8800", "max": "5.9800"}


@pytest.mark.parametrize(("language", "words"), [("zh", "严禁挖矿"), ("en", "Mining is forbidden")])
async def test_the_banner_speaks_the_callers_language(
    house: House, language: str, words: str
) -> None:
    headers = {**house.of(new_id()), "accept-language": language}
    answer = await house.http.get("/api/v1/market/options", headers=headers)
    assert words in answer.json()["banner"]


async def test_a_pending_user_sees_the_market_and_no_money(house: House) -> None:
    headers = house.of(new_id(), status=AccountStatus.pending)
    for path in ("/offers", f"/offers/{house.host_id}", "/market/options"):
        assert (await house.http.get(f"/api/v1{path}", headers=headers)).status_code == 200
    for path in ("/wallet", "/wallet/entries", "/bills"):
        refused = await house.http.get(f"/api/v1{path}", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "awaiting_approval")


async def set_price(house: House, model: str, **changes: Any) -> Any:
    body = {"list_price_per_hour": "3", "price_per_hour": "2.5", **changes}
    return await house.http.put(f"/api/v1/prices/{model}", json=body, headers=house.operator)


async def test_an_operators_price_replaces_the_default_and_is_told(house: House) -> None:
    answer = await set_price(house, RTX, no_card_price_per_hour="0.2")
    assert answer.status_code == 200, answer.text
    (offer,) = await offers(house)
    assert [offer[f"{n}_per_hour"] for n in ("list_price", "price", "no_card_price")] == [
        "3.0000", "2.5000", "0.2000",
    ]  # fmt: skip
    told = (await house.told(PriceChanged))[0]
    assert (told["model"], told["price_per_hour"], told["by"]) == (
        RTX, "2.5", str(house.operator_id),
    )  # fmt: skip
    await set_price(house, RTX)
    assert (await offers(house))[0]["no_card_price_per_hour"] == "0.1000"


@pytest.mark.usefixtures("street")
async def test_prices_are_listed_for_hosts_models_and_for_what_operators_set(house: House) -> None:
    await set_price(house, "H800 / 80GB".replace("/", "-"))
    answer = await house.http.get("/api/v1/prices", headers=house.operator)
    listed = {p["model"]: (p["price_per_hour"], p["is_default"]) for p in answer.json()["items"]}
    assert listed == {
        RTX: ("1.8800", True), SXM: ("5.9800", True), PCIE: ("3.9800", True),
        "Odd 1": ("2.0000", True), "H800 - 80GB": ("2.5000", False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"price_per_hour": "3.01"}, "list_price_per_hour"),
        ({"price_per_hour": "0"}, "price_per_hour"),
        ({"price_per_hour": "NaN"}, "price_per_hour"),
        ({"list_price_per_hour": "1e99"}, "list_price_per_hour"),
        ({"list_price_per_hour": "3.00001"}, "list_price_per_hour"),
        ({"no_card_price_per_hour": "-1"}, "no_card_price_per_hour"),
        ({"free": True}, "free"),
    ],
)
async def test_a_price_that_makes_no_sense_is_refused(
    house: House, changes: Json, field: str
) -> None:
    answer = await set_price(house, RTX, **changes)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (await offers(house))[0]["price_per_hour"] == "1.8800"


async def test_a_host_that_is_gone_is_nowhere_in_the_market(house: House, payer: UUID) -> None:
    host = await house.host(state="removed", gpu_model="Rare")
    listed = await house.get(payer, "/offers")
    assert str(host) not in [offer["id"] for offer in listed["items"]]
    shown = await house.http.get(f"/api/v1/offers/{host}", headers=house.of(payer))
    assert shown.status_code == 404
    options = await house.get(payer, "/market/options")
    assert "Rare" not in str(options)
    assert (await house.ask(payer, node_id=str(host))).status_code == 404


async def test_a_draining_host_is_not_rentable_and_a_restart_there_is_paid(
    house: House, payer: UUID
) -> None:
    host = await house.host(state="draining")
    assert (await house.get(payer, f"/offers/{host}"))["status"] == "offline"
    assert (await house.ask(payer, node_id=str(host))).status_code == 200
    for state in ("silent", "lost"):
        away = await house.host(state=state)
        assert (await house.get(payer, f"/offers/{away}"))["status"] == "offline"
        assert (await house.ask(payer, node_id=str(away))).status_code == 409
