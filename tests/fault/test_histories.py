"""F2 and F25 under load: several clients at work while the platform and its database are killed at
random; then what they were told is held against what is there.

Short by default; `make fault` goes on for LASTS_S seconds.
"""

import asyncio
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from shared.ids import new_id
from tests.e2e.doors import wish
from tests.e2e.people import Json
from tests.fault.conftest import LONG, SEED
from tests.fault.flows import World, new_person
from tests.fault.history import (
    History,
    Note,
    falling,
    lost_writes,
    two_answers,
    wrong_sums,
)
from tests.fault.invariants import broken, settles
from tests.fault.stubborn import Stubborn
from tests.fault.topology import Embedded

pytestmark = [pytest.mark.docker, pytest.mark.timeout(4 * 3600)]

LASTS_S = float(os.environ.get("LASTS_S", "600" if LONG else "15"))
FILES = 200


@dataclass
class Load:
    """seen: versions that one reader saw, in turn."""

    world: World
    person: Stubborn
    account_id: str
    chance: random.Random
    ends_at: float
    history: History = field(default_factory=History)
    seen: list[tuple[str, int]] = field(default_factory=list)

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self.ends_at

    async def uploads(self) -> None:
        """Each name once: a careful client asks again what became of an unknown one, by sending
        the same bytes to the same name."""
        for number in range(FILES):
            if not self.lasts:
                return
            content = self.chance.randbytes(self.chance.choice([0, 10, 3000, 2 << 20]))
            path = f"/{number:03}.bin"
            note = Note("put", path, hashlib.sha256(content).hexdigest())
            await self.person.send(
                "PUT", "/files/content", params={"path": path, "overwrite": True},
                content=content, note=note,
            )  # fmt: skip

    async def credits(self) -> None:
        while self.lasts:
            key = f"h-{new_id().hex}"
            amount = str(Decimal(self.chance.randint(1, 99999)) / 10000)
            body = {"amount": amount, "note": key}
            path = f"/wallets/{self.account_id}/credits"
            tries = [
                self.world.operator.send(
                    "POST", path, json=body, key=key, note=Note("credit", key, amount)
                )
                for _ in range(self.chance.choice([1, 1, 3]))
            ]
            await asyncio.gather(*tries)

    async def rents(self) -> None:
        while self.lasts:
            offers = await self.person.get("/offers")
            order = wish(offers, self.world.image, name=f"h-{new_id().hex[:12]}")
            rented = await self._twice("/instances", order)
            path = f"/instances/{rented['id']}"
            await self.person.arrives(path, "running", "stopped")
            for move in self.chance.choice([["stop"], ["stop", "start", "stop"], []]):
                await self._twice(f"{path}/{move}", {"mode": "gpu"} if move == "start" else {})
                await self.person.arrives(path, "stopped" if move == "stop" else "running")
            await self._twice(f"{path}/release", {})
            await self.person.arrives(path, "released")

    async def _twice(self, path: str, body: Json) -> Json:
        """The same request by a hasty client: its second try must be answered as the first."""
        key = new_id().hex
        note = Note("move", key, path)
        tries = [self.person.send("POST", path, json=body, key=key, note=note) for _ in range(2)]
        first, _ = await asyncio.gather(*tries)
        answer: Json = first
        return answer

    async def reads(self) -> None:
        """History of an instance only grows."""
        while self.lasts:
            for one in (await self.person.get("/instances", size=200))["items"]:
                events = await self.person.get(f"/instances/{one['id']}/events")
                self.seen.append((one["id"], events["total"]))
            await asyncio.sleep(0.5)

    async def faults(self, topology: Embedded) -> None:
        while self.lasts:
            await asyncio.sleep(self.chance.uniform(1, 5))
            what = self.chance.choice(["platform", "database"])
            sys.stderr.write(f"{what} is killed\n")
            if what == "platform":
                await topology.kill()
                await topology.start()
            else:
                os.kill(database_of(topology), self.chance.choice([signal.SIGQUIT, signal.SIGKILL]))
                await self.person.get("/wallet")


def database_of(topology: Embedded) -> int:
    pid_file = topology.home / "postgres" / "data" / "postmaster.pid"
    return int(pid_file.read_text().split("\n", 1)[0])


async def test_what_clients_were_told_is_so_however_often_everything_dies(
    world: World, topology: Embedded
) -> None:
    sys.stderr.write(f"seed {SEED}\n")
    history = History()
    world.operator.history = history
    person, account_id = await new_person(topology, world.operator, history)
    ends_at = time.monotonic() + LASTS_S
    load = Load(world, person, account_id, random.Random(SEED), ends_at, history)
    working = [load.uploads(), load.credits(), load.rents(), load.rents(), load.reads()]
    await asyncio.gather(*working, load.faults(topology))
    await person.get("/storage/usage")
    assert await broken(topology) == []
    await settles(topology)
    sys.stderr.write(f"{dict(history.counts())}\n")
    assert list(lost_writes(history, await files_of(person))) == []
    assert list(wrong_sums(history, await credits_of(topology, account_id))) == []
    assert list(two_answers(history, "credit")) == []
    assert list(two_answers(history, "move")) == []
    assert list(falling(load.seen)) == []
    assert history.of("put", "ok")
    assert history.of("credit", "ok")
    await person.close()


async def files_of(person: Stubborn) -> Mapping[str, str]:
    """SHA-256 by path, of every byte as it is read back."""
    found = {}
    for page in (1, 2):
        for entry in (await person.get("/files", path="/", size=200, page=page))["items"]:
            content = await person.send("GET", "/files/content", params={"path": entry["path"]})
            found[entry["path"]] = hashlib.sha256(content).hexdigest()
    return found


async def credits_of(topology: Embedded, account_id: str) -> list[tuple[str, Decimal]]:
    rows = await topology.ask(
        "market",
        "SELECT t.note, e.amount FROM ledger_transactions t JOIN ledger_entries e"
        " ON e.transaction_id = t.id WHERE t.kind = 'credit' AND t.note LIKE 'h-%'"
        " AND e.ledger_account_id = $1::text::uuid",
        account_id,
    )
    return [(row["note"], row["amount"]) for row in rows]
