"""F21, F22 and a troubled engine: whatever happens to messages, promises and money stay right.

Clients rent, stop, start and release at random, each call with a key and some of them twice at
once, while the bus doubles, delays, shuffles and loses messages, the engine cuts calls before and
after their effect, containers die and the agent is killed. Then the trouble ends.
"""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from shared.ids import new_id
from tests.e2e.waiting import until
from tests.fault.conftest import LONG, SEED
from tests.fault.history import over_held
from tests.fault.invariants import broken, settles
from tests.fault.rooms import Rooms, open_rooms

pytestmark = pytest.mark.timeout(1200)

ROUNDS = int(os.environ.get("ROUNDS", "20" if LONG else "1"))
CLIENTS, STEPS = 4, 12


async def a_client(rooms: Rooms, account: UUID, chance: random.Random) -> None:
    for _ in range(STEPS):
        await _one_step(rooms, account, chance)
        await asyncio.sleep(chance.uniform(0, 0.3))


async def _one_step(rooms: Rooms, account: UUID, chance: random.Random) -> None:
    key = new_id().hex
    mine = await rooms.ask(
        "scheduler",
        "SELECT id FROM instances WHERE account_id = $1 AND state NOT IN ('releasing', 'released')",
        account,
    )
    if len(mine) < 2 or chance.random() < 0.15:
        path, body = "/instances", await rooms.wish(gpu_count=chance.choice([1, 1, 2]))
    else:
        move = chance.choice(["stop", "start", "start", "restart", "release", "cpu"])
        body = {"mode": "cpu" if move == "cpu" else "gpu"} if move in ("start", "cpu") else {}
        path = f"/instances/{chance.choice(mine)['id']}/{'start' if move == 'cpu' else move}"
    # A careful client sends again; a hasty one does so at once.
    tries = [rooms.post(account, path, body, key=key) for _ in range(chance.choice([1, 1, 2]))]
    answers = await asyncio.gather(*tries)
    said = {answer.text for answer in answers if answer.is_success}
    assert len(said) <= 1, said
    assert all(a.status_code < 500 or a.status_code == 503 for a in answers), answers[0].text


async def trouble(rooms: Rooms, chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.uniform(0.2, 1.0))
        running = [c for c in rooms.engine.all.values() if c.running]
        if running and chance.random() < 0.3:
            rooms.engine.ends(chance.choice(running))
        if chance.random() < 0.3:
            await rooms.kill()
            await rooms.start()


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_promises_and_money_stay_right_whatever_happens_to_messages(
    new_database: Callable[[], Awaitable[str]], tmp_path: Path, round_: int
) -> None:
    seed = SEED + round_
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    async with open_rooms(new_database, tmp_path, chance) as rooms:
        await until(lambda: _offered(rooms), timeout_s=30, what="the market knows the host")
        accounts = [await rooms.account("500") for _ in range(CLIENTS)]
        rooms.bus.trouble, rooms.engine.trouble = 1.0, 0.1
        troubling = asyncio.create_task(trouble(rooms, chance))
        clients = [a_client(rooms, account, chance) for account in accounts]
        working = asyncio.gather(*clients)
        while not working.done():
            await asyncio.wait({working}, timeout=1)
            assert await broken(rooms) == []
        await working
        troubling.cancel()
        await asyncio.gather(troubling, return_exceptions=True)
        rooms.engine.trouble = 0.0
        await rooms.bus.calm()
        await rooms.start()
        await release_all(rooms)
        await settles(rooms)
        assert list(over_held(rooms.engine.held, {await rooms.offer(): 3})) == []
        assert rooms.engine.all == {}


async def _offered(rooms: Rooms) -> bool:
    return bool(await rooms.ask("market", "SELECT 1 FROM hosts WHERE state = 'online'"))


async def release_all(rooms: Rooms) -> None:
    rows = await rooms.ask("scheduler", "SELECT id, account_id FROM instances")
    for row in rows:
        answer = await rooms.post(row["account_id"], f"/instances/{row['id']}/release")
        assert answer.is_success, answer.text

    async def released() -> bool:
        return not await rooms.ask("scheduler", "SELECT 1 FROM instances WHERE state <> 'released'")

    await until(released, timeout_s=60, what="all are released")


async def test_fifty_requests_with_one_key_have_one_effect_and_one_answer(
    new_database: Callable[[], Awaitable[str]], tmp_path: Path
) -> None:
    """F36."""
    async with open_rooms(new_database, tmp_path, random.Random(SEED)) as rooms:
        await until(lambda: _offered(rooms), timeout_s=30, what="the market knows the host")
        account = await rooms.account("500")
        wish = await rooms.wish()
        rents = [rooms.post(account, "/instances", wish, key="fifty-rents") for _ in range(50)]
        credits = [rooms.credit(account, Decimal(7), key="fifty-credits") for _ in range(50)]
        answers = await asyncio.gather(*rents, *credits)
        for group in (answers[:50], answers[50:]):
            assert {a.status_code for a in group} <= {201, 503}
            assert len({a.text for a in group if a.status_code == 201}) == 1
        rows = await rooms.ask("scheduler", "SELECT id FROM instances")
        assert len(rows) == 1
        booked = "SELECT 1 FROM ledger_transactions WHERE kind = 'credit' AND note = $1"
        assert len(await rooms.ask("market", booked, "fifty-credits")) == 1
        await release_all(rooms)
        await settles(rooms)
