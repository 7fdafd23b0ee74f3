"""Two copies of storage on one database and disk: what each promises and receives is its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from services.storage.clearing import return_promises
from services.storage.quota import Volumes
from shared.bus import open_bus
from shared.events import Envelope
from shared.events.auth import AccountDisabled
from shared.ids import new_id
from tests.service.storage.conftest import MIB, Disk, Person, open_disk

PROMISED = 16 * MIB


@pytest.fixture
def bus() -> str:
    return f"memory://{new_id()}"


@pytest.fixture
async def first(database_url: str, auth_url: str, tmp_path: Path, bus: str) -> AsyncIterator[Disk]:
    async with open_disk(database_url, auth_url, tmp_path, bus) as opened:
        yield opened


def beside(disk: Disk, auth_url: str, bus: str):  # type: ignore[no-untyped-def]  # open_disk's
    url = disk.runtime.database.engine.url.render_as_string(hide_password=False)
    return open_disk(url, auth_url, disk.root, bus)


def volumes_of(disk: Disk) -> Volumes:
    volumes: Volumes = disk.app.state.volumes
    return volumes


class Upload:
    """Half sent, until it is told to go on."""

    def __init__(self) -> None:
        self._half = asyncio.Event()
        self._go_on = asyncio.Event()

    async def _body(self) -> AsyncIterator[bytes]:
        yield b"x" * MIB
        self._half.set()
        await self._go_on.wait()
        yield b"y" * MIB

    @asynccontextmanager
    async def under_way(self, person: Person) -> AsyncIterator["asyncio.Task[httpx.Response]"]:
        headers = await person.disk.log_in(person.account)
        sending = person.disk.http.put(
            "/api/v1/files/content",
            params={"path": "/a"},
            content=self._body(),
            headers=headers,
            timeout=60,
        )
        task = asyncio.create_task(sending)
        await self._half.wait()
        yield task
        task.cancel()

    async def ends(self, task: "asyncio.Task[httpx.Response]") -> httpx.Response:
        self._go_on.set()
        return await task


def half_uploads(disk: Disk) -> list[Path]:
    return [path for path in disk.root.glob("volumes/*/uploads/*") if path.is_file()]


async def test_a_copy_that_starts_and_clears_up_leaves_the_uploads_of_the_others(
    first: Disk, auth_url: str, bus: str
) -> None:
    person, upload = await first.person(), Upload()
    async with upload.under_way(person) as task:
        assert await first.reserved() == PROMISED
        async with beside(first, auth_url, bus) as second:
            database = second.runtime.database
            await return_promises(database)
            await volumes_of(second).count_all(database)
            assert await first.reserved() == PROMISED
            assert len(half_uploads(first)) == 1
            assert (await upload.ends(task)).status_code == 201
    assert (person.files / "a").stat().st_size == 2 * MIB
    assert await first.reserved() == 0


async def taken_for_dead(disk: Disk) -> UUID:
    """As if it had stood still for longer than its lease."""
    copy_id = volumes_of(disk).life.id
    async with disk.runtime.database.transaction() as session:
        await session.execute(
            text("UPDATE leases SET expires_at = clock_timestamp() WHERE name = :name"),
            {"name": f"copy:{copy_id}"},
        )
    await return_promises(disk.runtime.database)
    return copy_id


async def test_the_worker_that_keeps_a_copy_alive_is_never_late(first: Disk) -> None:
    """Each renewal is a pass that ends, for doctor and alerts to see."""
    life = volumes_of(first).life
    before = life.id
    async with asyncio.timeout(10):
        await life.keep()
    assert life.id == before


async def test_what_a_dead_copy_promised_is_returned_and_its_half_uploads_removed(
    first: Disk,
) -> None:
    """It only stood still: its upload is refused, and takes nothing of what is promised anew."""
    person, upload = await first.person(), Upload()
    async with upload.under_way(person) as task:
        old = await taken_for_dead(first)
        assert await first.reserved() == 0
        await volumes_of(first).count_all(first.runtime.database)
        assert half_uploads(first) == []
        async with asyncio.timeout(20):
            while volumes_of(first).life.id == old:
                await asyncio.sleep(0.02)
        async with Upload().under_way(person):
            assert await first.reserved() == PROMISED
            assert (await upload.ends(task)).status_code == 503
            assert await first.reserved() == PROMISED
    assert not (person.files / "a").exists()


async def test_uploads_through_both_copies_never_exceed_the_quota(
    first: Disk, auth_url: str, bus: str
) -> None:
    person = await first.person(quota_bytes=8 * MIB)
    headers = await first.log_in(person.account)
    async with beside(first, auth_url, bus) as second:
        sent = [
            copy.http.put(
                "/api/v1/files/content",
                params={"path": f"/{number}"},
                content=b"x" * 3 * MIB,
                headers=headers,
            )
            for number, copy in enumerate((first, second) * 3)
        ]
        codes = [answer.status_code for answer in await asyncio.gather(*sent)]
    assert sorted(set(codes)) == [201, 507]
    assert codes.count(201) == 2


async def test_two_copies_that_count_at_once_count_a_containers_files_once(
    first: Disk, auth_url: str, bus: str
) -> None:
    person = await first.person()
    account = UUID(person.account["id"])
    await volumes_of(first).count(account)
    (person.files / "by-container").write_bytes(b"x" * MIB)
    async with beside(first, auth_url, bus) as second:
        counts = [volumes_of(copy).count(account) for copy in (first, second) * 8]
        await asyncio.gather(*counts)
    async with first.runtime.database.transaction() as session:
        used = (await session.execute(text("SELECT used_bytes FROM volumes"))).scalar_one()
    assert used == MIB


async def test_disabling_ends_the_sessions_at_every_copy(
    first: Disk, auth_url: str, bus: str
) -> None:
    async with beside(first, auth_url, bus) as second:
        person = await first.person()
        elsewhere = Person(second, person.account)
        async with person.connected() as here, elsewhere.connected() as there:
            account_id = UUID(person.account["id"])
            disabled = AccountDisabled(account_id=account_id, reason="test")
            await open_bus(bus).publish(Envelope.wrap(disabled, subject=account_id))
            async with asyncio.timeout(10):
                await here.wait_closed()
                await there.wait_closed()
