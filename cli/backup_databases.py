"""All databases as of one moment, by PostgreSQL's own programs."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

import asyncpg

from cli.backup_manifest import DATABASES, Dump, hash_of
from cli.client import Trouble
from cli.up.postgres import Postgres

# Events told since then are told again after a restore: who has had one absorbs it.
TOLD_AGAIN = "1 hour"


class DatabaseFailed(Trouble):
    def __init__(self, what: str, words: str) -> None:
        super().__init__(f"{what} 失败：{words}", f"{what} failed: {words}")


async def dump_all(
    postgres: Postgres, names: Sequence[str], folder: Path
) -> tuple[datetime, Mapping[str, Dump]]:
    """Into `folder/databases`; the moment of which they tell. Raises DatabaseFailed."""
    (folder / DATABASES).mkdir(mode=0o700)
    async with AsyncExitStack() as stack:
        # Held open until the last is written, so that none tells of a later moment.
        snapshots = await asyncio.gather(
            *(stack.enter_async_context(_snapshot(postgres, name)) for name in names)
        )
        made_at = max(moment for _, moment in snapshots)
        dumps = {}
        for name, (snapshot, _) in zip(names, snapshots, strict=True):
            path = folder / DATABASES / f"{name}.dump"
            await _run(
                postgres, "pg_dump", "--format=custom", f"--snapshot={snapshot}",
                f"--dbname={name}", f"--file={path}",
            )  # fmt: skip
            dumps[name] = Dump(sha256=hash_of(path), size=path.stat().st_size)
    return made_at, dumps


@asynccontextmanager
async def _snapshot(postgres: Postgres, name: str) -> AsyncIterator[tuple[str, datetime]]:
    connection = await _connect(postgres, name)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow("SELECT pg_export_snapshot(), clock_timestamp()")
            yield row[0], row[1]
    finally:
        await connection.close()


async def load_all(postgres: Postgres, names: Sequence[str], folder: Path) -> None:
    """Into databases that are made for it. Raises DatabaseFailed."""
    for name in names:
        await postgres.create_database(name)
        path = folder / DATABASES / f"{name}.dump"
        await _run(
            postgres, "pg_restore", "--exit-on-error", "--single-transaction",
            f"--dbname={name}", str(path),
        )  # fmt: skip
        await _tell_again(postgres, name)


async def _tell_again(postgres: Postgres, name: str) -> None:
    """The snapshots are milliseconds apart: what one service had told then, another may not have
    had."""
    connection = await _connect(postgres, name)
    try:
        await connection.execute(
            f"""
            UPDATE outbox SET published_at = NULL, claimed_until = NULL
            WHERE published_at > (SELECT max(published_at) FROM outbox) - interval '{TOLD_AGAIN}'
            """  # noqa: S608 - a constant of ours
        )
    finally:
        await connection.close()


async def _connect(postgres: Postgres, name: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(
            host=str(postgres.socket_folder), user="postgres", database=name
        )
    except (OSError, asyncpg.PostgresError) as error:
        raise DatabaseFailed(name, str(error)) from error


async def _run(postgres: Postgres, program: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        str(postgres.program(program)),
        f"--host={postgres.socket_folder}", "--username=postgres", "--no-password", *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise DatabaseFailed(program, errors.decode(errors="replace").strip()[-500:])
