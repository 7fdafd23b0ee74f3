"""From registration to SSH in a real container, and all the way to release."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.doors import QUIET, rent, sftp, ssh
from tests.e2e.people import Json, Person, register, run
from tests.e2e.platform import RunningPlatform
from tests.e2e.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


async def test_a_pending_user_sees_the_market_and_nothing_else(platform: RunningPlatform) -> None:
    pending = await register(platform.url)
    assert (await pending.get("/accounts/me"))["status"] == "pending"

    async def offers_are_shown() -> bool:
        return bool((await pending.get("/offers"))["total"])

    await until(offers_are_shown, timeout_s=30, what="the agent has told of its hosts")
    refused = await pending.http.get("/api/v1/files", params={"path": "/"})
    assert refused.status_code == 403
    assert refused.json()["code"] == "awaiting_approval"
    await pending.http.aclose()


CONTENT = b"lung nodule\n" * 1000


async def test_a_file_put_over_http_is_there_in_parts_and_over_sftp(
    platform: RunningPlatform, user: Person, key: Path
) -> None:
    put = await user.http.put("/api/v1/files/content", params={"path": "/a.txt"}, content=CONTENT)
    assert put.status_code == 201, put.text
    part = await user.http.get(
        "/api/v1/files/content", params={"path": "/a.txt"}, headers={"range": "bytes=0-3"}
    )
    assert (part.status_code, part.content) == (206, b"lung")
    assert "a.txt" in await sftp(platform.sftp_port, user.username, key, "ls -l\n")


async def test_the_life_of_an_instance_from_rent_to_release(
    user: Person, key: Path, image: Json
) -> None:
    url = "/api/v1/files/content"
    await user.http.put(url, params={"path": "/b.txt"}, content=CONTENT)
    rented = await rent(user, image, env={"STUDY": "LIDC"})
    instance = await user.instance_in(rented["id"], "running")
    assert await ssh(instance, key, "wc -c < /root/netdisk/b.txt") == f"{len(CONTENT)}\n"
    assert await ssh(instance, key, "echo $STUDY") == "LIDC\n"
    assert (await ssh(instance, key, "tmux -V")).startswith("tmux")
    secret = await user.get(f"/instances/{instance['id']}/credentials")
    door = instance["ssh"]
    assert "root" in await run(
        "sshpass", "-p", secret["password"], "ssh", *QUIET, "-o", "PubkeyAuthentication=no",
        "-p", str(door["port"]), f"root@{door['host']}", "id -un",
    )  # fmt: skip
    await ssh(instance, key, "echo kept > /root/mark")

    await user.post(f"/instances/{instance['id']}/stop")
    await user.instance_in(instance["id"], "stopped")
    await user.post(f"/instances/{instance['id']}/start", {"mode": "cpu"})
    no_card = await user.instance_in(instance["id"], "running")
    assert no_card["mode"] == "cpu"
    assert no_card["ssh"] == instance["ssh"]
    assert await ssh(no_card, key, "cat /root/mark") == "kept\n"
    assert (await ssh(no_card, key, "cat /run/chusuan/mode")).strip() == "cpu"
    await user.post(f"/instances/{instance['id']}/stop")
    await user.instance_in(instance["id"], "stopped")

    await user.post(f"/instances/{instance['id']}/save", {"name": "mine"})
    await user.instance_in(instance["id"], "stopped")
    saved = next(i for i in (await user.get("/images", tab="mine"))["items"] if i["name"] == "mine")

    async def saved_is_ready() -> bool:
        return bool((await user.get(f"/images/{saved['id']}"))["status"] == "ready")

    await until(saved_is_ready, timeout_s=30, what="the saved image is ready")
    second = await user.instance_in((await rent(user, saved))["id"], "running")
    assert await ssh(second, key, "cat /root/mark") == "kept\n"

    for each in (instance, second):
        await user.post(f"/instances/{each['id']}/release")
        await user.instance_in(each["id"], "released")

    async def settled() -> bool:
        bills = (await user.get("/bills"))["items"]
        held = (await user.get("/wallet"))["held"]
        return all(bill["settled"] for bill in bills) and Decimal(held) == 0

    await until(settled, timeout_s=30, what="every bill is settled and no money is held")
    bills = (await user.get("/bills"))["items"]
    ours = [b for b in bills if b["instance_id"] in (instance["id"], second["id"])]
    assert sorted(b["mode"] for b in ours) == ["cpu", "gpu", "gpu"]
    balance = Decimal((await user.get("/wallet"))["balance"])
    assert balance == Decimal(1000) - sum(Decimal(b["amount"]) for b in bills)


async def test_a_killed_platform_comes_back_with_its_containers_and_sums(
    platform: RunningPlatform, user: Person, key: Path, image: Json
) -> None:
    instance = await user.instance_in((await rent(user, image))["id"], "running")
    before = await platform.containers_of(instance)
    await platform.kill()
    assert await platform.containers_of(instance) == before != ""
    await platform.start()
    again = await user.instance_in(instance["id"], "running")
    assert again["started_at"] == instance["started_at"]
    assert await ssh(again, key, "echo alive") == "alive\n"
    await user.post(f"/instances/{instance['id']}/release")
    await user.instance_in(instance["id"], "released")
    assert await platform.containers_of(instance) == ""
