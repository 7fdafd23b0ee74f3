"""Makes a backup of an embedded platform, running or not, and brings one back.

The order matters. First what an agent keeps, then the databases, then the files of the net disk:
a journal is then never newer than the orders in the database, whose older generations it would
refuse; and every file that a row names is there, unless its owner has deleted it since.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cli.backup_databases import dump_all, load_all
from cli.backup_manifest import FILES, MANIFEST, Manifest, hash_of, read_manifest, verify
from cli.backup_tree import Copying, put_back
from cli.client import Trouble
from cli.up.home import SERVICES, Home
from cli.up.postgres import Postgres, PostgresFailed
from shared.clock import utc_now

# Of instances on this machine, whose system disks lie in Docker and are no part of it either.
LEFT_OUT = frozenset({"agent/data"})
FIRST, LAST = ("secrets", "operator-password", "agent"), ("storage",)


async def back_up(home: Home, target: Path) -> Manifest:
    """Into a folder that it makes. Raises Trouble."""
    partial = _place_for(home, target)
    try:
        with _alone(home) as alone:
            manifest = await _write(home, partial, starts_database=alone)
        os.sync()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _place_for(home: Home, target: Path) -> Path:
    """Another name until it is whole."""
    if not (home.postgres / "data").exists():
        raise Trouble(f"{home.root} 中没有平台", f"There is no platform in {home.root}.")
    if target.exists():
        raise Trouble(f"{target} 已存在，请另选", f"{target} is there already: choose another.")
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(mode=0o700, parents=True)
    return partial


async def _write(home: Home, folder: Path, *, starts_database: bool) -> Manifest:
    """starts_database: nobody else does."""
    copying = Copying(home.root, folder)
    postgres = Postgres(home.postgres)
    if starts_database:
        await _start(postgres)
    try:
        await asyncio.to_thread(_copy, copying, FIRST)
        made_at, dumps = await dump_all(postgres, SERVICES, folder)
    finally:
        if starts_database:
            await postgres.stop()
    await asyncio.to_thread(_copy, copying, LAST)
    manifest = Manifest(
        format=1, made_at=made_at, databases=dumps, files_sha256=hash_of(folder / FILES),
        files=copying.files, bytes=copying.bytes,
        unsteady=copying.unsteady, left_out=copying.left_out,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return manifest


def _copy(copying: Copying, names: tuple[str, ...]) -> None:
    with (copying.target / FILES).open("a") as lines:
        for name in names:
            for item in copying.tree(name, LEFT_OUT):
                lines.write(item.line())


async def restore(source: Path, home: Home, *, force: bool) -> tuple[Manifest, Path | None]:
    """Where the home that was there before lies now. Raises Trouble, BackupBroken; what was there
    is there again then."""
    manifest = read_manifest(source)
    await asyncio.to_thread(verify, source, manifest)
    with _alone(home) as alone:
        if not alone:
            raise Trouble(
                f"平台正在 {home.root} 上运行，请先停止它",
                f"A platform runs on {home.root}: stop it first.",
            )
    aside = _make_way(home.root, force=force)
    try:
        await _read(source, manifest, home)
    except BaseException:
        shutil.rmtree(home.root, ignore_errors=True)
        if aside is not None:
            aside.rename(home.root)
        raise
    return manifest, aside


async def _read(source: Path, manifest: Manifest, home: Home) -> None:
    home.root.mkdir(parents=True, exist_ok=True)
    home.root.chmod(0o711)
    await asyncio.to_thread(put_back, source, home.root)
    home.prepare()
    postgres = Postgres(home.postgres)
    await _start(postgres)
    try:
        await load_all(postgres, list(manifest.databases), source)
    finally:
        await postgres.stop()
    os.sync()


def _make_way(root: Path, *, force: bool) -> Path | None:
    """Nothing is deleted."""
    if not root.exists() or not any(root.iterdir()):
        return None
    if not force:
        raise Trouble(
            f"{root} 不是空的；--force 会先把它移到旁边",
            f"{root} is not empty; --force moves it aside first.",
        )
    aside = root.with_name(f"{root.name}.before-{_stamp(utc_now())}")
    root.rename(aside)
    return aside


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S}"


async def _start(postgres: Postgres) -> None:
    try:
        await postgres.start()
    except PostgresFailed as error:
        raise Trouble(f"数据库没有启动：{error}", f"The database did not start: {error}") from error


@contextmanager
def _alone(home: Home) -> Iterator[bool]:
    """Whether no platform runs there; none starts meanwhile then."""
    path = home.root / "lock"
    if not path.exists():
        yield True
        return
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
