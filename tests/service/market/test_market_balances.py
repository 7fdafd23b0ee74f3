"""A wallet that does not last is told, holds stay within the money, and nothing is hidden."""

from datetime import timedelta
from decimal import Decimal

from services.market.watching import watch_balances
from shared.clock import utc_now
from shared.events.market import WalletExhausted
from tests.service.market.conftest import House, Opener, at

PRICE = Decimal("1.88")


async def test_an_empty_wallet_is_told_and_not_again_at_once(house: House) -> None:
    account = await house.account("1.88")
    run = await house.running(account)
    await house.tell(run.proven(at(minutes=58)))
    await house.watch(account, at(minutes=58))
    assert await house.told(WalletExhausted) == []
    await house.tell(run.proven(at(minutes=59, seconds=30)))
    for second in (30, 40, 59):
        await house.watch(account, at(minutes=59, seconds=second))
    assert await house.told(WalletExhausted) == [{"account_id": str(account)}]


async def test_what_still_runs_later_is_told_again(house: House) -> None:
    account = await house.account("1.88")
    await house.running(account)
    await house.watch(account, at(hours=1))
    assert await house.told(WalletExhausted) == []
    run = await house.running(await house.account("1.88"))
    await house.tell(run.proven(at(hours=2)))
    for minutes in (0, 4, 5, 9, 10):
        await house.watch(run.account_id, at(hours=2, minutes=minutes))
    assert len(await house.told(WalletExhausted)) == 3


async def test_new_money_that_does_not_last_either_is_told_at_once(house: House) -> None:
    account = await house.account("1.88")
    run = await house.running(account)
    await house.tell(run.proven(at(hours=3)))
    await house.watch(account, at(hours=3))
    await house.credit(account, "1")
    await house.watch(account, at(hours=3, seconds=1))
    assert len(await house.told(WalletExhausted)) == 2


async def test_new_money_that_lasts_ends_the_matter(house: House) -> None:
    account = await house.account("1.88")
    run = await house.running(account)
    await house.tell(run.proven(at(hours=1)))
    await house.watch(account, at(hours=1))
    await house.credit(account, "10")
    await house.watch(account, at(hours=1, minutes=6))
    assert len(await house.told(WalletExhausted)) == 1


async def test_a_silent_host_empties_no_wallet(house: House) -> None:
    account = await house.account("1.88")
    run = await house.running(account)
    await house.tell(run.proven(at(minutes=30)))
    await house.watch(account, at(hours=5))
    assert await house.told(WalletExhausted) == []


async def test_between_two_proofs_time_goes_on(house: House) -> None:
    account = await house.account("1.88")
    run = await house.running(account)
    await house.tell(run.proven(at(minutes=58, seconds=20)))
    await house.watch(account, at(minutes=59, seconds=10))
    assert len(await house.told(WalletExhausted)) == 1


async def test_several_instances_share_one_balance(house: House) -> None:
    account = await house.account("5")
    for _ in range(2):
        run = await house.running(account)
        await house.tell(run.proven(at(minutes=78)))
    await house.watch(account, at(minutes=78))
    assert await house.told(WalletExhausted) == []
    await house.watch(account, at(minutes=79))
    assert len(await house.told(WalletExhausted)) == 1


async def test_a_balance_that_lasted_again_and_then_does_not_is_told_at_once(
    house: House,
) -> None:
    account = await house.account("5")
    first, second = [await house.running(account) for _ in range(2)]
    for run in (first, second):
        await house.tell(run.proven(at(minutes=79)))
    await house.watch(account, at(minutes=79))
    await house.tell(first.stopped(at(minutes=79)))
    await house.watch(account, at(minutes=79))
    assert len(await house.told(WalletExhausted)) == 1
    await house.watch(account, at(minutes=80))
    assert len(await house.told(WalletExhausted)) == 2


async def test_a_new_start_beside_an_empty_wallet_is_told_at_once(house: House) -> None:
    account = await house.account("2.05")
    run = await house.running(account)
    await house.tell(run.proven(at(minutes=65)))
    await house.watch(account, at(minutes=65))
    await house.authorised(account, mode="cpu")
    await house.watch(account, at(minutes=65, seconds=1))
    assert len(await house.told(WalletExhausted)) == 2


async def test_the_worker_asks_for_everyone_who_runs(house: House) -> None:
    poor, rich = await house.account("1.88"), await house.account("100")
    for account in (poor, rich):
        run = await house.running(account, since=utc_now() - timedelta(minutes=70))
        await house.tell(run.proven(utc_now()))
    await watch_balances(house.tools)
    assert await house.told(WalletExhausted) == [{"account_id": str(poor)}]


async def test_the_telling_reaches_the_bus(open_house: Opener) -> None:
    async with open_house(watch_s=0.02) as house:
        account = await house.account("1.88")
        run = await house.running(account, since=utc_now() - timedelta(minutes=70))
        await house.tell(run.proven(utc_now()))
        while not [e for e in house.heard if e.type == WalletExhausted.type]:
            await watch_balances(house.tools)


async def test_an_overdrawn_wallet_is_booked_as_it_is_and_promises_nothing(house: House) -> None:
    account = await house.account("1.88")
    run = await house.running(account)
    await house.tell(run.stopped(at(hours=1, seconds=30)))
    assert await house.wallet(account) == (Decimal("-0.0157"), 0, 0)
    refused = await house.ask(account)
    assert (refused.status_code, refused.json()["available"]) == (402, "0.0000")


async def test_a_debit_leaves_as_much_held_as_the_money_allows(house: House) -> None:
    account = await house.account("3")
    run = await house.running(account)
    await house.tell(run.proven(at(hours=1)))
    await house.settle(run, at(hours=1))
    assert await house.state_of(run) == ("active", Decimal("1.12"))
    assert await house.wallet(account) == (Decimal("1.12"), Decimal("1.12"), 0)
    await house.credit(account, "1")
    assert await house.wallet(account) == (Decimal("2.12"), PRICE, Decimal("0.24"))


async def test_a_hold_never_takes_what_another_holds(house: House) -> None:
    account = await house.account("3.8")
    first, second = await house.running(account), await house.authorised(account)
    await house.tell(first.proven(at(hours=1)))
    await house.settle(first, at(hours=1))
    assert await house.state_of(first) == ("active", Decimal("0.04"))
    assert await house.state_of(second) == ("open", PRICE)
    assert await house.wallet(account) == (Decimal("1.92"), Decimal("1.92"), 0)
