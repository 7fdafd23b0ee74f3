"""From registration to SSH in a real container, and all the way to release."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningPlatform
from tests.e2e.people import Json, Person, approved, log_in, register, run
from tests.e2e.waiting import until

pytest.importorskip("services.scheduler.main", reason="the scheduler is not built yet")

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SFTP_PORT = 2022
QUIET = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
)  # fmt: skip


@pytest.fixture(scope="module")
async def operator(platform: RunningPlatform) -> AsyncIterator[Person]:
    password = (platform.home / "operator-password").read_text().strip()
    person = await log_in(platform.url, "admin", password)
    yield person
    await person.http.aclose()


@pytest.fixture(scope="module")
async def user(platform: RunningPlatform, operator: Person) -> AsyncIterator[Person]:
    person = await approved(platform.url, operator)
    yield person
    await person.http.aclose()


@pytest.fixture(scope="module")
async def key(user: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssh") / "id_ed25519"
    await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    public = path.with_suffix(".pub").read_text().strip()
    await user.post("/ssh-keys", {"name": "laptop", "public_key": public})
    return path


@pytest.fixture(scope="module")
async def image(user: Person) -> Json:
    """The minimal system image, once it is built."""
    found: Json = {}

    async def ready() -> bool:
        for item in (await user.get("/images", tab="system", name="minimal"))["items"]:
            found.update(item)
        assert found.get("status") != "failed", found
        return found.get("status") == "ready"

    await until(ready, timeout_s=600, what="the minimal image is built")
    return found


async def ssh(instance: Json, key: Path, command: str) -> str:
    door = instance["ssh"]
    return await run(
        "ssh", *QUIET, "-i", str(key), "-o", "IdentitiesOnly=yes", "-p", str(door["port"]),
        f"{door['username']}@{door['host']}", command,
    )  # fmt: skip


async def rent(user: Person, image: Json, **more: object) -> Json:
    offers = (await user.get("/offers"))["items"]
    offer = next(o for o in offers if o["gpu_free"] > 0)
    body = {
        "offer_id": offer["id"],
        "gpu_count": 1,
        "image_id": image["id"],
        "billing": "payg",
        **more,
    }
    answer: Json = await user.post("/instances", body)
    return answer


async def test_a_pending_user_sees_the_market_and_nothing_else(platform: RunningPlatform) -> None:
    pending = await register(platform.url)
    assert (await pending.get("/accounts/me"))["status"] == "pending"
    assert (await pending.get("/offers"))["total"] >= 1
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
    listing = await run(
        "sftp", *QUIET, "-i", str(key), "-P", str(SFTP_PORT), "-b", "-",
        f"{user.username}@127.0.0.1", stdin=b"ls -l\n",
    )  # fmt: skip
    assert "a.txt" in listing


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
        return all(bill["settled"] for bill in (await user.get("/bills"))["items"])

    await until(settled, timeout_s=30, what="every bill is settled")
    bills = (await user.get("/bills"))["items"]
    wallet = await user.get("/wallet")
    assert len(bills) == 3
    assert Decimal(wallet["balance"]) == Decimal(1000) - sum(Decimal(b["amount"]) for b in bills)
    assert Decimal(wallet["held"]) == 0


async def test_another_user_sees_none_of_it(
    platform: RunningPlatform, operator: Person, user: Person
) -> None:
    stranger = await approved(platform.url, operator)
    mine = (await user.get("/instances"))["items"][0]["id"]
    for method, path in (
        ("GET", f"/instances/{mine}"),
        ("GET", f"/instances/{mine}/credentials"),
        ("POST", f"/instances/{mine}/release"),
    ):
        answer = await stranger.http.request(method, f"/api/v1{path}")
        assert answer.status_code == 404, answer.text
    assert (await stranger.get("/files", path="/"))["items"] == []
    assert (await stranger.get("/images", tab="mine"))["items"] == []
    await stranger.http.aclose()


async def test_a_killed_platform_comes_back_with_its_containers_and_sums(
    platform: RunningPlatform, user: Person, key: Path, image: Json
) -> None:
    instance = await user.instance_in((await rent(user, image))["id"], "running")
    containers = ("docker", "ps", "-q", "--filter", f"label=chusuan.instance={instance['id']}")
    before = await run(*containers)
    await platform.kill()
    assert await run(*containers) == before != ""
    await platform.start()
    again = await user.instance_in(instance["id"], "running")
    assert again["started_at"] == instance["started_at"]
    assert await ssh(again, key, "echo alive") == "alive\n"
    await user.post(f"/instances/{instance['id']}/release")
    await user.instance_in(instance["id"], "released")
    assert await run(*containers, "--all") == ""
