"""The steps of the main job, each from what it needs to what must be true after it. A step is done
by a careful client, so whatever dies in between, it ends well and its effect is there once."""

import hashlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncssh

from shared.ids import new_id
from tests.e2e.doors import wish
from tests.e2e.people import Json
from tests.fault.history import History
from tests.fault.stubborn import Refused, Stubborn
from tests.fault.topology import Topology

MOST_INSTANCES = 4


@dataclass
class World:
    """An operator and one person on a platform, and what that person has."""

    topology: Topology
    operator: Stubborn
    user: Stubborn
    account_id: str
    image: Json
    saved: Json | None = None

    async def stopped(self) -> Json:
        """An instance of ours that is stopped."""
        for found in await self._instances("stopped"):
            return found
        running = await self.running()
        await self.user.post(f"/instances/{running['id']}/stop")
        return await self.user.arrives(f"/instances/{running['id']}", "stopped")

    async def running(self) -> Json:
        """An instance of ours that runs with a card."""
        for found in await self._instances("running"):
            if found["mode"] == "gpu":
                return found
        return await self.rented(self.image)

    async def rented(self, image: Json) -> Json:
        asked = await self.user.post(
            "/instances", wish(await self.user.get("/offers"), image, name=f"i-{new_id().hex[:12]}")
        )
        return await self.user.arrives(f"/instances/{asked['id']}", "running")

    async def make_room(self) -> None:
        """Few instances, so that the machine is not filled with them."""
        for found in (await self._instances("running", "stopped"))[MOST_INSTANCES - 1 :]:
            await self.release(found)

    async def release(self, instance: Json) -> None:
        await self.user.post(f"/instances/{instance['id']}/release")
        await self.user.arrives(f"/instances/{instance['id']}", "released")

    async def release_all(self) -> None:
        for found in await self._instances("running", "stopped", "failed"):
            await self.release(found)

    async def _instances(self, *states: str) -> list[Json]:
        return [
            item
            for state in states
            for item in (await self.user.get("/instances", status=state, size=200))["items"]
        ]

    async def balance(self) -> Decimal:
        return Decimal((await self.user.get("/wallet"))["balance"])


async def new_person(
    topology: Topology, operator: Stubborn, history: History
) -> tuple[Stubborn, str]:
    """Registered, approved, with money; and the account's id."""
    name = f"u{new_id().hex[-12:]}"
    person = Stubborn.at(topology.url, name, f"pass-{new_id().hex}", history)
    account_id = await _register(person, operator)
    await operator.post(f"/wallets/{account_id}/credits", {"amount": "1000.00", "note": "first"})
    return person, account_id


async def _register(person: Stubborn, operator: Stubborn) -> str:
    """Neither registering nor approving takes a key: a careful client looks what came of it."""
    form = {
        "username": person.name, "email": f"{person.name}@example.org", "phone": "13800138000",
        "organisation": "湖北医疗器械", "purpose": "肺结节检测", "password": person.password,
    }  # fmt: skip
    anyone = Stubborn.at(person.url, "", "")
    try:
        await anyone.post("/accounts", form)
    except Refused as refusal:
        refusal.must_be(409)
    await anyone.close()
    account = await person.get("/accounts/me")
    try:
        await operator.post(f"/accounts/{account['id']}/approve")
    except Refused as refusal:
        refusal.must_be(409)
    person.token = ""
    assert (await person.get("/accounts/me"))["status"] == "active"
    return str(account["id"])


Prepare = Callable[[World], Awaitable[Json]]
Act = Callable[[World, Json], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Flow:
    """prepare: what the step starts from, done while nothing dies. act: the step."""

    prepare: Prepare
    act: Act


async def _nothing(_: World) -> Json:
    return {}


async def _register_and_approve(world: World, _: Json) -> None:
    person = Stubborn.at(world.topology.url, f"u{new_id().hex[-12:]}", f"pass-{new_id().hex}")
    account_id = await _register(person, world.operator)
    body = {"amount": "5.00", "note": "welcome"}
    await world.operator.post(f"/wallets/{account_id}/credits", body)
    assert Decimal((await person.get("/wallet"))["balance"]) == 5
    await person.close()


async def _upload(world: World, _: Json) -> None:
    path = f"/{new_id().hex}.bin"
    content = random.randbytes(3 << 20)
    await world.user.send(
        "PUT", "/files/content", params={"path": path, "overwrite": True}, content=content
    )
    back = await world.user.send("GET", "/files/content", params={"path": path})
    assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()
    await world.user.get("/storage/usage")


async def _a_file(world: World) -> Json:
    path = f"/{new_id().hex}.bin"
    await world.user.send("PUT", "/files/content", params={"path": path}, content=b"x" * 1000)
    return {"path": path}


async def _delete(world: World, file: Json) -> None:
    try:
        await world.user.send("DELETE", "/files", params=file)
    except Refused as refusal:
        refusal.must_be(404)
    left = (await world.user.get("/files", path="/", size=200))["items"]
    assert file["path"] not in [entry["path"] for entry in left]
    await world.user.get("/storage/usage")


async def _room(world: World) -> Json:
    await world.make_room()
    return world.image


async def _rent(world: World, image: Json) -> None:
    name = f"once-{new_id().hex[:12]}"
    order = wish(await world.user.get("/offers"), image, name=name)
    rented = await world.user.post("/instances", order)
    await world.user.arrives(f"/instances/{rented['id']}", "running")
    found = (await world.user.get("/instances", size=200))["items"]
    assert [one["id"] for one in found if one["name"] == name] == [rented["id"]]


async def _saved_room(world: World) -> Json:
    await world.make_room()
    if world.saved is None:
        await _save(world, await world.running())
    assert world.saved is not None
    return world.saved


def _move(move: str, status: str, body: Json | None = None) -> Act:
    async def act(world: World, instance: Json) -> None:
        path = f"/instances/{instance['id']}"
        await world.user.post(f"{path}/{move}", body)
        await world.user.arrives(path, status)

    return act


async def _running(world: World) -> Json:
    await world.make_room()
    return await world.running()


async def _stopped(world: World) -> Json:
    await world.make_room()
    return await world.stopped()


async def _start_without_card(world: World, instance: Json) -> None:
    await _move("start", "running", {"mode": "cpu"})(world, instance)
    path = f"/instances/{instance['id']}"
    assert (await world.user.get(path))["mode"] == "cpu"


async def _save(world: World, instance: Json) -> None:
    path, name = f"/instances/{instance['id']}", f"img-{new_id().hex[:12]}"
    await world.user.post(f"{path}/save", {"name": name})
    await world.user.arrives(path, instance["status"])
    (mine,) = (await world.user.get("/images", tab="mine", name=name))["items"]
    world.saved = await world.user.arrives(f"/images/{mine['id']}", "ready")


async def _credit(world: World, _: Json) -> None:
    note, before = f"once {new_id().hex}", await world.balance()
    path = f"/wallets/{world.account_id}/credits"
    await world.operator.post(path, {"amount": "3.0000", "note": note})
    entries = (await world.user.get("/wallet/entries", size=200))["items"]
    assert [e["amount"] for e in entries if e["note"] == note] == ["3.0000"]
    assert await world.balance() <= before + 3


async def _keys(world: World, _: Json) -> None:
    line = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    added = await world.user.post("/ssh-keys", {"name": "k", "public_key": line})
    try:
        await world.user.send("DELETE", f"/ssh-keys/{added['id']}")
    except Refused as refusal:
        refusal.must_be(404)
    assert (await world.user.get("/ssh-keys"))["total"] == 0


FLOWS: Mapping[str, Flow] = {
    "register_and_approve": Flow(_nothing, _register_and_approve),
    "credit": Flow(_nothing, _credit),
    "keys": Flow(_nothing, _keys),
    "upload": Flow(_nothing, _upload),
    "delete_file": Flow(_a_file, _delete),
    "rent": Flow(_room, _rent),
    "stop": Flow(_running, _move("stop", "stopped")),
    "start_without_card": Flow(_stopped, _start_without_card),
    "restart": Flow(_running, _move("restart", "running")),
    "save": Flow(_running, _save),
    "rent_saved_image": Flow(_saved_room, _rent),
    "release": Flow(_running, lambda world, instance: world.release(instance)),
}
