"""The SFTP door, met with the stock OpenSSH programs, and with asyncssh where they cannot."""

import asyncio
import os
import stat
from pathlib import Path

import asyncssh
import pytest
from asyncssh import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_WRITE
from sqlalchemy import text

from tests.service.storage.conftest import MIB, Disk, Person


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content.bin"
    path.write_bytes(os.urandom(3 * MIB + 17))
    return path


async def test_what_is_put_is_got_back_and_seen_over_http(
    user: Person, content: Path, tmp_path: Path
) -> None:
    back = tmp_path / "back.bin"
    outcome = await user.sftp(
        "mkdir 肺结节",
        f"put {content} 肺结节/a.bin",
        "ls -l 肺结节",
        f"get 肺结节/a.bin {back}",
        "pwd",
    )
    assert outcome.code == 0, outcome.output
    assert f"{user.name} {user.name}  {3 * MIB + 17}" in outcome.output
    assert back.read_bytes() == content.read_bytes()
    over_http = await user.disk.http.get(
        "/api/v1/files/content", params={"path": "/肺结节/a.bin"}, headers=user.headers
    )
    assert over_http.content == content.read_bytes()
    assert stat.S_IMODE((user.files / "肺结节" / "a.bin").stat().st_mode) == 0o644


async def test_what_http_put_and_a_container_wrote_is_there(user: Person, tmp_path: Path) -> None:
    put = await user.disk.http.put(
        "/api/v1/files/content", params={"path": "/h"}, content=b"http", headers=user.headers
    )
    assert put.status_code == 201
    (user.files / "c").write_bytes(b"container")
    outcome = await user.sftp(f"get h {tmp_path}/h", f"get c {tmp_path}/c")
    assert outcome.code == 0, outcome.output
    assert [(tmp_path / n).read_bytes() for n in "hc"] == [b"http", b"container"]


async def test_scp_copies_folders_both_ways(user: Person, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "in").mkdir(parents=True)
    (tree / "in" / "run.sh").write_text("#!/bin/sh\n")
    (tree / "in" / "run.sh").chmod(0o755)
    (tree / "empty").write_bytes(b"")
    up = await user.scp("-r", str(tree), f"{user.there}:copy")
    assert up.code == 0, up.output
    assert stat.S_IMODE((user.files / "copy" / "in" / "run.sh").stat().st_mode) == 0o755
    down = await user.scp("-p", "-r", f"{user.there}:/copy", str(tmp_path / "back"))
    assert down.code == 0, down.output
    assert (tmp_path / "back" / "in" / "run.sh").read_text() == "#!/bin/sh\n"


async def test_a_broken_upload_goes_on_where_it_stopped(user: Person, content: Path) -> None:
    (user.files).mkdir(parents=True, exist_ok=True)
    whole = content.read_bytes()
    (user.files / "a.bin").write_bytes(whole[: 2 * MIB])
    outcome = await user.sftp(f"reput {content} a.bin")
    assert outcome.code == 0, outcome.output
    assert (user.files / "a.bin").read_bytes() == whole


async def test_a_rename_replaces_a_file_and_a_folder_in_use_stays(
    user: Person, content: Path
) -> None:
    outcome = await user.sftp(
        f"put {content} old", "mkdir f", f"put {content} f/in", f"put {content} new",
        "rename new old", "-rmdir f", "-rm f", "ls -1", "df",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert sorted(os.listdir(user.files)) == ["f", "old"]
    async with user.session() as client:
        with pytest.raises(asyncssh.SFTPError):
            await client.rename("old", "f/in")
        await client.remove("f/in")
        await client.rmdir("f")
    assert os.listdir(user.files) == ["old"]


async def test_a_thousand_files_are_listed(user: Person) -> None:
    user.files.mkdir(parents=True, exist_ok=True)
    for number in range(1000):
        (user.files / f"{number:04}").touch()
    outcome = await user.sftp("ls -1")
    assert outcome.output.split("\n")[1:-1] == [f"{n:04}" for n in range(1000)]


async def test_the_flags_of_an_open_do_as_they_say(user: Person) -> None:
    async with user.session() as client:
        async with client.open("a", FXF_WRITE | FXF_CREAT | FXF_EXCL, encoding=None) as file:
            await file.write(b"one")
        with pytest.raises(asyncssh.SFTPError):
            await client.open("a", FXF_WRITE | FXF_CREAT | FXF_EXCL)
        async with client.open("a", FXF_WRITE | FXF_APPEND, encoding=None) as file:
            await file.write(b"two", 0)
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await file.read(3, 0)
        async with client.open("a", "rb", encoding=None) as file:
            assert (user.files / "a").read_bytes() == b"onetwo"
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await file.write(b"x")
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await client.open("b", FXF_WRITE)
        await client.truncate("a", 3)
        await client.utime("a", (1_000_000_000, 1_000_000_001))
        await client.chmod("a", 0o4750)
        await client.copy("a", "copied")
        status = await client.stat("copied")
        assert (await client.stat("a")).mtime == 1_000_000_001
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await client.chown("a", 1, 1)
    assert status.size == 3
    assert stat.S_IMODE((user.files / "a").stat().st_mode) == 0o750


async def test_links_are_shown_and_never_made(user: Person) -> None:
    user.files.mkdir(parents=True, exist_ok=True)
    (user.files / "link").symlink_to("/etc/passwd")
    (user.files / "real").write_bytes(b"x")
    async with user.session() as client:
        assert await client.readlink("link") == "/etc/passwd"
        assert (await client.lstat("link")).type == asyncssh.FILEXFER_TYPE_SYMLINK
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await client.stat("link")
        with pytest.raises(asyncssh.SFTPError):
            await client.symlink("real", "made")
        with pytest.raises(asyncssh.SFTPError):
            await client.link("real", "made")
    assert sorted(os.listdir(user.files)) == ["link", "real"]


async def test_a_fifo_is_refused_at_once(user: Person, content: Path) -> None:
    user.files.mkdir(parents=True, exist_ok=True)
    os.mkfifo(user.files / "fifo")
    async with asyncio.timeout(10), user.session() as client:
        for way in ("r", "w", "a", "r+"):
            with pytest.raises(asyncssh.SFTPError):
                await client.open("fifo", way)
        with pytest.raises(asyncssh.SFTPError):
            await client.chmod("fifo", 0o777)
        with pytest.raises(asyncssh.SFTPError):
            await client.truncate("fifo", 1)
        assert (await client.stat("fifo")).size == 0
        await client.remove("fifo")


async def test_names_that_are_no_utf8_can_be_listed_and_removed(user: Person) -> None:
    user.files.mkdir(parents=True, exist_ok=True)
    (user.files / os.fsdecode(b"\xff\n")).write_bytes(b"")
    async with user.session() as client:
        assert b"\xff\n" in await client.listdir(b".")
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await client.stat(b"\xfe")
        await client.remove(b"\xff\n")
    assert os.listdir(user.files) == []


# Quota


async def test_an_upload_over_the_quota_is_refused_midway_and_returns_its_room(
    disk: Disk, tmp_path: Path
) -> None:
    person = await disk.person(quota_bytes=8 * MIB)
    big = tmp_path / "big"
    big.write_bytes(b"x" * 12 * MIB)
    outcome = await person.sftp(f"put {big} big")
    assert outcome.code != 0
    assert "8388608 bytes are used" in outcome.output
    assert await disk.reserved() == 0
    kept = (person.files / "big").stat().st_size
    assert 0 < kept <= 8 * MIB
    assert (await person.usage())["used_bytes"] == kept
    (tmp_path / "fits").write_bytes(b"x" * 7 * MIB)
    again = await person.sftp("rm big", f"put {tmp_path}/fits fits")
    assert again.code == 0, again.output


async def test_sessions_at_the_same_time_cannot_exceed_the_quota(disk: Disk) -> None:
    person = await disk.person(quota_bytes=8 * MIB)

    async def upload(name: str) -> bool:
        async with person.session() as client, client.open(name, "wb") as file:
            try:
                for number in range(3):
                    await file.write(b"x" * MIB, number * MIB)
            except asyncssh.SFTPError:
                return False
            return True

    whole = await asyncio.gather(*(upload(str(n)) for n in range(6)))
    assert sum(p.stat().st_size for p in person.files.iterdir()) <= 8 * MIB
    assert 1 <= sum(whole) <= 2
    assert await disk.reserved() == 0


async def test_a_file_cannot_be_stretched_over_the_quota(disk: Disk) -> None:
    person = await disk.person(quota_bytes=8 * MIB)
    async with person.session() as client:
        async with client.open("a", "wb") as file:
            for offset in (9 * MIB, 1 << 45, (1 << 62) + 1, (1 << 64) - 2):
                with pytest.raises(asyncssh.SFTPError):
                    await file.write(b"x", offset)
        for size in (9 * MIB, (1 << 64) - 1):
            with pytest.raises(asyncssh.SFTPError):
                await client.truncate("a", size)
        await client.truncate("a", 7 * MIB)
        assert (await client.statvfs("/")).blocks == 8 * MIB // 4096
    assert (person.files / "a").stat().st_size == 7 * MIB
    assert (await person.usage())["used_bytes"] == 7 * MIB


async def test_no_more_files_are_made_than_allowed(disk: Disk) -> None:
    person = await disk.person()
    await person.usage()
    async with disk.runtime.database.transaction() as session:
        await session.execute(
            text("UPDATE volumes SET quota_files = 2 WHERE account_id = :id"),
            {"id": person.account["id"]},
        )
    async with person.session() as client:
        async with client.open("a", "wb") as file:
            await file.write(b"x")
        await client.mkdir("b")
        with pytest.raises(asyncssh.SFTPError, match="At most 2 files"):
            await client.open("c", "wb")
        with pytest.raises(asyncssh.SFTPError, match="At most 2 files"):
            await client.mkdir("c")
        async with client.open("a", "wb") as file:
            await file.write(b"again")


async def test_a_large_upload_needs_little_memory(user: Person, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(200 * MIB)
    before, peak = _resident(), 0
    upload = asyncio.create_task(user.scp(str(big), f"{user.there}:big"))
    while not upload.done():
        peak = max(peak, _resident())
        await asyncio.sleep(0.02)
    assert upload.result().code == 0, upload.result().output
    assert (user.files / "big").stat().st_size == 200 * MIB
    download = asyncio.create_task(user.scp(f"{user.there}:big", str(tmp_path / "back")))
    while not download.done():
        peak = max(peak, _resident())
        await asyncio.sleep(0.02)
    assert download.result().code == 0, download.result().output
    assert peak - before < 60 * MIB


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def test_a_client_that_asks_and_never_listens_fills_no_memory(user: Person) -> None:
    user.files.mkdir(parents=True, exist_ok=True)
    (user.files / "a").write_bytes(b"x" * MIB)
    before = _resident()
    async with user.connected() as connection:
        writer, reader, _ = await connection.open_session(
            subsystem="sftp", encoding=None, window=65536
        )
        writer.write(_packet(1, (3).to_bytes(4, "big")))
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        writer.write(_packet(3, b"\0\0\0\1" + _string(b"a") + b"\0\0\0\1" + b"\0\0\0\0"))
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        ask = _packet(
            5, b"\0\0\0\2" + _string(b"\0\0\0\0") + bytes(8) + (1 << 20).to_bytes(4, "big")
        )
        for _ in range(2000):
            writer.write(ask)
        still, last = 0, _resident()
        while still < 100:
            assert last - before < 60 * MIB
            await asyncio.sleep(0.005)
            now = _resident()
            still, last = (still + 1 if now == last else 0), now


def _packet(kind: int, rest: bytes) -> bytes:
    return (1 + len(rest)).to_bytes(4, "big") + bytes([kind]) + rest


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


async def test_only_so_many_files_are_open_at_once(user: Person) -> None:
    async with user.session() as client:
        opened = [await client.open(f"{n}", "wb") for n in range(64)]
        with pytest.raises(asyncssh.SFTPError, match="Too many files are open"):
            await client.open("more", "wb")
        await opened[0].close()
        await (await client.open("more", "wb")).close()
