"""F31: the disk of the database, or of the net disk, is full; room comes back later."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from cli.up.postgres import Postgres
from services.storage.main import create_app
from services.storage.settings import StorageSettings
from shared.database import Database
from shared.ids import new_id
from tests.e2e.waiting import until
from tests.identity import TestIdentity

MIB = 1 << 20


@contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """A file system of its own of this size. Skips where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="chusuan-disk-") as folder:
        image, mount = Path(folder) / "image", Path(folder) / "mount"
        with image.open("wb") as file:
            file.truncate(mib * MIB)
        mount.mkdir()
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        mounted = subprocess.run(
            ["mount", "-o", "loop", str(image), str(mount)], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
        Path(folder).chmod(0o711)
        mount.chmod(0o711)
        try:
            yield mount
        finally:
            subprocess.run(["umount", "-l", str(mount)], check=True)


@contextmanager
def filled(disk: Path, *, leaving: int = 0) -> Iterator[None]:
    """Nothing more fits, but this many bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leaving)
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture
async def cramped() -> AsyncIterator[tuple[Postgres, Path]]:
    with small_disk(400) as disk:
        server = Postgres(disk / "postgres")
        await server.start()
        keeper = asyncio.create_task(server.keep_up())
        yield server, disk
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_a_full_disk_under_the_database_is_the_database_away_until_there_is_room(
    cramped: tuple[Postgres, Path],
) -> None:
    server, disk = cramped
    await server.create_database("kept")
    database = Database(server.url("kept"))
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE things (id serial, words text)"))
    acknowledged = 0

    async def writes() -> bool:
        nonlocal acknowledged
        try:
            async with database.transaction() as session:
                words = text("INSERT INTO things (words) SELECT repeat('x', 4000) FROM"
                             " generate_series(1, 500)")  # fmt: skip
                await session.execute(words)
        except OSError:
            return False
        acknowledged += 500
        return True

    async def refuses() -> bool:
        return not await writes()

    with filled(disk, leaving=4 * MIB):
        await until(refuses, timeout_s=60, what="the disk is full")
    await until(writes, timeout_s=60, what="the database works again")
    async with database.transaction() as session:
        kept = (await session.execute(text("SELECT count(*) FROM things"))).scalar_one()
    assert kept >= acknowledged
    await database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_a_full_net_disk_refuses_whole_files_and_takes_them_again_when_there_is_room(
    database_url: str,
) -> None:
    identity = TestIdentity()
    with small_disk(64) as disk:
        app = create_app(
            StorageSettings(
                database_url=database_url,
                bus_url=f"memory://{new_id()}",
                auth_url="http://127.0.0.1:1",
                service_secret=SecretStr("s" * 32),
                root=disk / "storage",
            ),
            key_source=identity,
        )
        headers = identity.headers(new_id())
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://s", headers=headers) as http,
        ):

            async def put(name: str) -> int:
                answer = await http.put(
                    "/api/v1/files/content", params={"path": name}, content=b"x" * (8 * MIB)
                )
                return answer.status_code

            assert await put("/before") == 201
            with filled(disk, leaving=2 * MIB):
                assert await put("/during") == 507
                listed = (await http.get("/api/v1/files", params={"path": "/"})).json()["items"]
                assert [entry["name"] for entry in listed] == ["before"]
                assert list(disk.glob("storage/volumes/*/uploads/*")) == []
            assert await put("/during") == 201
            usage = (await http.get("/api/v1/storage/usage")).json()
            assert usage["used_bytes"] == 16 * MIB
