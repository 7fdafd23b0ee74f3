"""What a tenant who swaps links, and a killed process, cannot do to the SFTP door."""

import asyncio
import contextlib
import os
import random
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncssh
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.ids import new_id
from tests.service.storage.conftest import MIB, Disk, Person

SECRET = b"host secret"
ROUNDS = 150


@pytest.fixture
def outside(disk: Disk) -> Path:
    """On the same file system, beside the volumes, as another tenant's files are."""
    folder = disk.root / f"outside-{new_id()}"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


@contextmanager
def links_swapping(files: Path, outside: Path) -> Iterator[None]:
    """`current` is by turns a folder of the tenant and links of every kind to the outside."""
    (files / "real").mkdir()
    (files / "real" / "secret").write_bytes(b"own")
    (files / "nested").mkdir()
    depth = os.path.relpath(outside, files)
    targets = (
        str(outside),
        depth,
        f"nested/../{depth}",
        "nested/hop",
        "/etc",
        "/proc/self/root",
    )
    (files / "nested" / "hop").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in targets:
                for now in (target, "real"):
                    os.symlink(now, files / "next")
                    os.rename(files / "next", files / "current")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        yield
    finally:
        stop.set()
        attacker.join()


async def test_links_swapped_in_a_loop_lead_no_operation_outside(disk: Disk, outside: Path) -> None:
    person = await disk.person()
    person.files.mkdir(parents=True, exist_ok=True)
    seen: set[bytes] = set()
    refused = done = 0
    before = _state(outside)
    with links_swapping(person.files, outside):
        async with person.session() as client:

            async def read() -> None:
                async with client.open("current/secret", "rb", encoding=None) as file:
                    seen.add(await file.read())

            async def put() -> None:
                async with client.open("current/put", "wb", encoding=None) as file:
                    await file.write(b"mine")

            async def list_all() -> None:
                assert "passwd" not in await client.listdir("current")

            steps: tuple[Callable[[], Awaitable[object]], ...] = (
                read, put, list_all,
                lambda: client.mkdir("current/made"),
                lambda: client.rmdir("current/made"),
                lambda: client.rename("current/put", "current/moved"),
                lambda: client.posix_rename("current/moved", "current/put"),
                lambda: client.posix_rename("current/secret", "real/secret"),
                lambda: client.remove("current/put"),
                lambda: client.chmod("current/secret", 0o777),
                lambda: client.utime("current/secret", (1, 1)),
                lambda: client.truncate("current/secret", 3),
                lambda: client.stat("current/secret"),
                lambda: client.readlink("current/secret"),
            )  # fmt: skip
            for _ in range(ROUNDS):
                for step in random.sample(steps, len(steps)):
                    try:
                        await step()
                        done += 1
                    except asyncssh.SFTPError:
                        refused += 1
    assert seen <= {b"own", b"mine"}
    assert seen
    assert min(done, refused) > ROUNDS, (done, refused)
    assert _state(outside) == before
    assert not {"made", "put", "moved"} & set(os.listdir("/etc"))
    assert (outside / "secret").read_bytes() == SECRET


def _state(folder: Path) -> list[tuple[str, int, int, int]]:
    return sorted(
        (e.name, s.st_mode, s.st_size, s.st_mtime_ns)
        for e in os.scandir(folder)
        for s in [e.stat(follow_symlinks=False)]
    )


@asynccontextmanager
async def killable(
    database_url: str, root: Path, account_id: str
) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.service.storage.killable",
        database_url, str(root), account_id, "victim", "victims-password",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while not (line := await process.stdout.readline()).startswith(b"port "):
            assert line, "it did not start"
    try:
        yield int(line.split()[1]), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def entered(port: int) -> AsyncIterator[asyncssh.SFTPClient]:
    async with (
        asyncssh.connect(
            "127.0.0.1", port, username="victim", password="victims-password", known_hosts=None,
            client_keys=None, config=[], agent_path=None,
        ) as connection,
        connection.start_sftp_client() as client,
    ):  # fmt: skip
        yield client


async def test_a_kill_in_an_upload_keeps_what_was_written_and_promises_nothing_on(
    database_url: str, tmp_path: Path
) -> None:
    account = new_id()
    engine = create_async_engine(database_url)

    async def booked() -> tuple[int, int]:
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT reserved_bytes, used_bytes FROM volumes"))
            row = found.one()
            return int(row.reserved_bytes), int(row.used_bytes)

    content = os.urandom(3 * MIB)
    async with killable(database_url, tmp_path, str(account)) as (port, process):
        with contextlib.suppress(asyncssh.Error, OSError):
            async with entered(port) as client:
                file = await client.open("a", "wb", encoding=None)
                await file.write(content[: 2 * MIB])
                async with client.open("done", "wb", encoding=None) as done:
                    await done.write(content)
                promised, _ = await booked()
                process.kill()
                await process.wait()
    assert promised > 0
    files = tmp_path / "volumes" / str(account) / "files"
    assert (files / "done").read_bytes() == content
    async with killable(database_url, tmp_path, str(account)) as (port, _), entered(port) as client:
        async with asyncio.timeout(60):
            while (await booked())[0] != 0:
                await asyncio.sleep(0.05)
        size = (await client.stat("a")).size or 0
        assert size == 2 * MIB
        async with client.open("a", "r+b", encoding=None) as file:
            await file.write(content[size:], size)
        assert await client.getsize("a") == 3 * MIB
    assert (files / "a").read_bytes() == content
    await engine.dispose()


async def test_a_client_that_vanishes_returns_its_promise(disk: Disk, user: Person) -> None:
    async with user.connected() as connection:
        client = await connection.start_sftp_client()
        file = await client.open("a", "wb", encoding=None)
        await file.write(b"x" * MIB)
        assert await disk.reserved() > 0
        connection.abort()
    async with asyncio.timeout(10):
        while await disk.reserved():
            await asyncio.sleep(0.01)
    assert (user.files / "a").stat().st_size == MIB
    assert (await user.usage())["used_bytes"] == MIB
