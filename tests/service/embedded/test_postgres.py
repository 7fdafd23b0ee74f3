"""The embedded PostgreSQL never opens what was closed."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from cli.up.postgres import Postgres


@pytest.fixture
def closed_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="chusuan-closed-"))
    home.chmod(0o700)
    yield home
    shutil.rmtree(home)


def _modes(path: Path) -> dict[Path, int]:
    return {p: stat.S_IMODE(p.stat().st_mode) for p in (path, *path.parents)}


async def test_no_mode_outside_its_folder_changes_even_when_parents_are_closed(
    closed_home: Path,
) -> None:
    before = _modes(closed_home)
    server = Postgres(closed_home / "state" / "postgres")
    await server.start()
    try:
        await server.create_database("kept")
        folder = closed_home / "state" / "postgres"
        assert _modes(closed_home) == before
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        if os.geteuid() == 0:
            assert folder.stat().st_uid != 0
    finally:
        await server.stop()
    assert _modes(closed_home) == before


async def test_data_survives_a_restart_and_an_orphan_left_by_a_killed_parent(
    closed_home: Path,
) -> None:
    folder = closed_home / "postgres"
    first = Postgres(folder)
    await first.start()
    await first.create_database("kept")

    second = Postgres(folder)  # the first was never stopped: its parent "died"
    await second.start()
    connection = await asyncpg.connect(host=f"{folder}/run", user="postgres", database="kept")
    assert await connection.fetchval("SELECT current_database()") == "kept"
    await connection.close()
    await second.stop()
