"""Clears up behind copies of storage that died: their promises of room, their half uploads."""

import asyncio
from pathlib import Path

import structlog

from services.storage import repository
from services.storage.life import PREFIX
from services.storage.upload import copy_of
from shared.database import Database

log = structlog.get_logger(__name__)


async def return_promises(database: Database) -> None:
    """One pass; safe beside the promises of those that live."""
    async with database.transaction() as session:
        await repository.bury(session, PREFIX)
    async with database.transaction() as session:
        orphans = await repository.orphans(session, PREFIX)
    for copy_id, account_id in orphans:
        async with database.transaction() as session:
            returned = await repository.return_promise(session, copy_id, account_id)
        log.info("promise_returned", account_id=str(account_id), bytes=returned)


async def remove_uploads(database: Database, uploads: Path) -> None:
    """Those of dead copies in this folder. Listed before asking who lives: a copy that began after
    the list has nothing on it."""
    names = await asyncio.to_thread(_names, uploads)
    if not names:
        return
    async with database.transaction() as session:
        living = await repository.living(session, PREFIX)
    for name in names:
        if copy_of(name) not in living:
            await asyncio.to_thread((uploads / name).unlink, missing_ok=True)


def _names(uploads: Path) -> list[str]:
    return [left.name for left in uploads.iterdir()] if uploads.is_dir() else []
