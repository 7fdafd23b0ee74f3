"""The platform is killed again and again while a user does the main job; the job still ends well.

Each step is sent with a key made before the first try and sent again until it is answered, as a
careful client does; the process is killed at a random moment after the step was first sent.
`CHUSUAN_CRASH_ROUNDS` repeats the whole job; the seed is printed with every kill.
"""

import asyncio
import os
import random
import sys
from dataclasses import dataclass
from decimal import Decimal

import httpx
import pytest

from shared.ids import new_id
from tests.e2e.doors import wish
from tests.e2e.people import Json, Person
from tests.e2e.platform import RunningPlatform
from tests.e2e.waiting import until
from tests.fault.invariants import settles
from tests.fault.shape import topology_of

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("CHUSUAN_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("CHUSUAN_CRASH_SEED", "0")) or random.randrange(1 << 30)
LATEST_KILL_S = 2.0


@dataclass
class Killer:
    platform: RunningPlatform
    chance: random.Random

    async def strike(self) -> None:
        """Kill at a random moment from now on, then start again."""
        moment_s = self.chance.uniform(0, LATEST_KILL_S)
        await asyncio.sleep(moment_s)
        sys.stderr.write(f"killed {moment_s:.3f} s after the step (seed {SEED})\n")
        await self.platform.kill()
        await self.platform.start()


@dataclass
class Stubborn:
    """Sends until it is answered; the platform may die meanwhile."""

    person: Person
    killer: Killer

    async def post(self, path: str, body: Json | None = None) -> Json:
        key = str(new_id())
        strike = asyncio.create_task(self.killer.strike())
        try:
            return await self._answered("POST", path, json=body or {}, key=key)
        finally:
            await strike

    async def get(self, path: str) -> Json:
        return await self._answered("GET", path)

    async def _answered(
        self, method: str, path: str, *, json: Json | None = None, key: str = ""
    ) -> Json:
        found: Json = {}

        async def answered() -> bool:
            headers = {"idempotency-key": key} if key else {}
            try:
                answer = await self.person.http.request(
                    method, f"/api/v1{path}", json=json, headers=headers
                )
            except httpx.TransportError:
                return False
            if answer.status_code >= 500:
                return False
            assert answer.is_success, f"{method} {path}: {answer.text}"
            found.update(answer.json())
            return True

        await until(answered, timeout_s=120, what=f"{method} {path} is answered")
        return found

    async def arrives(self, path: str, status: str) -> Json:
        found: Json = {}

        async def arrived() -> bool:
            found.clear()
            found.update(await self.get(path))
            assert found["status"] != "failed", found
            return bool(found["status"] == status)

        try:
            await until(arrived, timeout_s=120, what=f"{path} becomes {status}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; it is {found}") from None
        return found


async def do_the_job(user: Stubborn, image: Json) -> list[Json]:
    """From rent to release, with a kill after every step; the instances."""
    first = await user.post("/instances", wish(await user.get("/offers"), image))
    path = f"/instances/{first['id']}"
    await user.arrives(path, "running")
    await user.post(f"{path}/stop")
    await user.arrives(path, "stopped")
    await user.post(f"{path}/start", {"mode": "cpu"})
    await user.arrives(path, "running")
    await user.post(f"{path}/restart")
    await user.arrives(path, "running")
    await user.post(f"{path}/save", {"name": f"mine-{first['short_name']}"})
    await user.arrives(path, "running")
    mine = (await user.get(f"/images?tab=mine&name=mine-{first['short_name']}"))["items"][0]
    saved = await user.arrives(f"/images/{mine['id']}", "ready")
    second = await user.post("/instances", wish(await user.get("/offers"), saved))
    await user.arrives(f"/instances/{second['id']}", "running")
    for instance in (first, second):
        await user.post(f"/instances/{instance['id']}/release")
        await user.arrives(f"/instances/{instance['id']}", "released")
    return [first, second]


@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_the_main_job_ends_well_whenever_the_platform_is_killed(
    platform: RunningPlatform, operator: Person, user: Person, image: Json, round_: int
) -> None:
    chance = random.Random(SEED + round_)
    instances = await do_the_job(Stubborn(user, Killer(platform, chance)), image)
    for instance in instances:
        assert await platform.containers_of(instance) == ""
    await settles(topology_of(platform), alone=False)
    await the_bills_sum(user)


async def the_bills_sum(user: Person) -> None:
    bills = (await user.get("/bills", size=200))["items"]
    wallet = await user.get("/wallet")
    assert all(bill["settled"] for bill in bills)
    assert Decimal(wallet["held"]) == 0
    spent = sum(Decimal(bill["amount"]) for bill in bills)
    assert Decimal(wallet["balance"]) == Decimal(1000) - spent
