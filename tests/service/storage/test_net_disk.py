"""The net disk over HTTP, on a real PostgreSQL and a real folder."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient, Response
from pydantic import SecretStr

from services.storage.main import create_app
from services.storage.settings import StorageSettings
from shared.bus import open_bus
from shared.events import Envelope
from shared.events.auth import AccountApproved
from shared.ids import new_id
from shared.tokens import Role
from tests.identity import TestIdentity

MIB = 1 << 20
QUOTA = 8 * MIB
ACCOUNT = new_id()
BUS = f"memory://{new_id()}"


@pytest.fixture
def identity() -> TestIdentity:
    return TestIdentity()


@pytest.fixture
async def anyone(
    database_url: str, tmp_path: Path, identity: TestIdentity
) -> AsyncIterator[AsyncClient]:
    settings = StorageSettings(
        database_url=database_url,
        bus_url=BUS,
        auth_url="http://127.0.0.1:1",
        service_secret=SecretStr("x" * 32),
        root=tmp_path,
        default_quota_bytes=QUOTA,
        scan_interval_s=3600,
    )
    app = create_app(settings, key_source=identity)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://storage/api/v1") as client,
    ):
        yield client


@pytest.fixture
def user(anyone: AsyncClient, identity: TestIdentity) -> AsyncClient:
    anyone.headers.update(identity.headers(ACCOUNT))
    return anyone


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "volumes" / str(ACCOUNT) / "files"


async def put(client: AsyncClient, path: str, content: bytes, **params: str) -> Response:
    return await client.put("/files/content", params={"path": path, **params}, content=content)


async def test_an_answered_upload_reads_back_whole_and_in_parts(user: AsyncClient) -> None:
    content = bytes(range(256)) * 8192
    answer = await put(user, "/肺 结节.bin", content)
    assert answer.status_code == 201
    assert answer.json()["size_bytes"] == len(content)
    whole = await user.get("/files/content", params={"path": "/肺 结节.bin"})
    assert whole.content == content
    assert "UTF-8''%E8%82%BA%20%E7%BB%93%E8%8A%82.bin" in whole.headers["content-disposition"]
    part = await user.get(
        "/files/content", params={"path": "/肺 结节.bin"}, headers={"range": "bytes=-300"}
    )
    assert (part.status_code, part.content) == (206, content[-300:])
    assert part.headers["content-range"].endswith(f"/{len(content)}")
    beyond = await user.get(
        "/files/content", params={"path": "/肺 结节.bin"}, headers={"range": "bytes=99999999-"}
    )
    assert beyond.status_code == 416


async def test_an_unchanged_file_is_not_sent_again(user: AsyncClient) -> None:
    await put(user, "/a", b"one")
    head = await user.head("/files/content", params={"path": "/a"})
    assert (head.headers["content-length"], head.content) == ("3", b"")
    again = await user.get(
        "/files/content", params={"path": "/a"}, headers={"if-none-match": head.headers["etag"]}
    )
    assert again.status_code == 304


async def test_nothing_is_overwritten_unless_asked(user: AsyncClient) -> None:
    await put(user, "/a", b"one")
    refused = await put(user, "/a", b"two")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_there")
    assert (await put(user, "/a", b"two", overwrite="true")).status_code == 201
    assert (await user.get("/files/content", params={"path": "/a"})).content == b"two"


async def test_folders_are_made_listed_moved_and_deleted(user: AsyncClient) -> None:
    for path in ("/b", "/a", "/a/in"):
        assert (await user.post("/files/directories", json={"path": path})).status_code == 201
    await put(user, "/a/in/file", b"x")
    moved = await user.post("/files/move", json={"source": "/a/in", "target": "/b/out"})
    assert moved.json()["path"] == "/b/out"
    listing = (await user.get("/files", params={"path": "/", "size": 1, "page": 2})).json()
    assert ([e["name"] for e in listing["items"]], listing["total"]) == (["b"], 2)
    into = await user.post("/files/move", json={"source": "/b", "target": "/b/out/b"})
    assert (into.status_code, into.json()["code"]) == (409, "into_itself")
    assert (await user.delete("/files", params={"path": "/b"})).status_code == 204
    gone = await user.get("/files", params={"path": "/b"})
    assert (gone.status_code, gone.json()["code"]) == (404, "no_such_file")


@pytest.mark.parametrize("path", ["/../x", "x", "//", "/a/./b", "/" + "y" * 300])
async def test_a_path_that_is_not_plain_names_the_field(user: AsyncClient, path: str) -> None:
    answer = await put(user, path, b"")
    assert (answer.status_code, answer.json()["field"]) == (422, "path")


async def _chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * MIB


@pytest.mark.parametrize("declared", [True, False])
async def test_an_upload_over_the_quota_is_refused_and_leaves_nothing(
    user: AsyncClient, tmp_path: Path, declared: bool
) -> None:
    content = b"x" * 9 * MIB if declared else _chunks(9)
    answer = await user.put("/files/content", params={"path": "/big"}, content=content)
    assert (answer.status_code, answer.json()["code"]) == (507, "insufficient_quota")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert (await put(user, "/fits", b"x" * 7 * MIB)).status_code == 201


async def test_uploads_at_the_same_time_cannot_exceed_the_quota(user: AsyncClient) -> None:
    answers = await asyncio.gather(*(put(user, f"/{n}", b"x" * 3 * MIB) for n in range(8)))
    assert sorted(a.status_code for a in answers) == [201] * 2 + [507] * 6
    usage = (await user.get("/storage/usage")).json()
    assert usage == {
        "used_bytes": 6 * MIB,
        "quota_bytes": QUOTA,
        "used_files": 2,
        "quota_files": 1_000_000,
    }


async def test_a_broken_upload_leaves_nothing_and_returns_its_room(
    user: AsyncClient, tmp_path: Path
) -> None:
    class Broken(Exception):
        pass

    async def breaks() -> AsyncIterator[bytes]:
        yield b"x" * 6 * MIB
        raise Broken

    with pytest.raises(Broken):
        await user.put("/files/content", params={"path": "/a"}, content=breaks())
    # The service may notice it a moment after the client has.
    async with asyncio.timeout(20):
        while [p for p in tmp_path.rglob("*") if p.is_file()]:
            await asyncio.sleep(0.01)
        while (await put(user, "/b", b"x" * 7 * MIB)).status_code != 201:
            await asyncio.sleep(0.01)


async def test_what_a_container_writes_counts_too(user: AsyncClient, files: Path) -> None:
    await put(user, "/a", b"x")
    (files / "by-container").write_bytes(b"x" * MIB)
    assert (await user.get("/storage/usage")).json()["used_bytes"] == MIB + 1


async def test_an_operator_gives_more_room(user: AsyncClient, identity: TestIdentity) -> None:
    path = f"/storage/volumes/{ACCOUNT}"
    assert (await user.put(path, json={"quota_bytes": 1})).status_code == 403
    operator = identity.headers(role=Role.operator)
    answer = await user.put(path, json={"quota_bytes": 64 * MIB}, headers=operator)
    assert answer.json()["quota_bytes"] == 64 * MIB
    assert (await put(user, "/big", b"x" * 20 * MIB)).status_code == 201


async def test_one_user_never_meets_anothers_files(
    user: AsyncClient, identity: TestIdentity
) -> None:
    await put(user, "/mine", b"x")
    stranger = identity.headers()
    listing = await user.get("/files", params={"path": "/"}, headers=stranger)
    assert listing.json()["items"] == []
    other = await user.get("/files/content", params={"path": "/mine"}, headers=stranger)
    assert other.status_code == 404


async def test_an_approved_account_has_its_volume_before_the_first_use(
    user: AsyncClient, identity: TestIdentity
) -> None:
    approved = new_id()
    event = AccountApproved(account_id=approved, username="u")
    await open_bus(BUS).publish(Envelope.wrap(event, subject=approved))
    usage = await user.get("/storage/usage", headers=identity.headers(approved))
    assert usage.json()["quota_bytes"] == QUOTA


async def test_a_net_disk_without_an_sftp_door_says_so(user: AsyncClient) -> None:
    assert (await user.get("/storage")).json() == {"sftp": None}
