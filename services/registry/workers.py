"""What happens by itself: hosts are told, deadlines pass.

A change is told by the copy that made it; telling all again, and deadlines, are one copy's.
"""

from dataclasses import replace
from functools import partial

import structlog

from services.registry import purging
from services.registry.building import fail_overdue, overdue
from services.registry.tools import Tools
from services.registry.wanting import tell_wanted
from shared.database import Database
from shared.errors import Unavailable
from shared.worker import LoneWorker, Worker

log = structlog.get_logger(__name__)


def workers(tools: Tools) -> list[Worker]:
    settings = tools.settings

    async def tell_again(database: Database) -> None:
        await tell_wanted(replace(tools, database=database))

    async def sweep(database: Database) -> None:
        async with database.transaction() as session:
            due = await overdue(session, tools)
        for image_id in due:
            try:
                async with database.transaction() as session:
                    await fail_overdue(session, tools, image_id)
            except Exception:
                log.exception("sweep_item_failed", image_id=str(image_id))

    async def purge_deleted(database: Database) -> None:
        async with database.transaction() as session:
            deleted = await purging.due(session, tools)
        for image in deleted:
            try:
                await purging.purge(tools, image)
            except Unavailable:
                log.warning("manifest_not_deleted", image_id=str(image.id))
                continue
            async with database.transaction() as session:
                await purging.note_purged(session, image.id)

    return [
        Worker("registry.changes", None, partial(tell_wanted, tools), tools.wanted),
        LoneWorker("registry.wanted", settings.resend_s, tell_again),
        LoneWorker("registry.deadlines", settings.sweep_s, sweep),
        LoneWorker("registry.purging", settings.purge_s, purge_deleted),
    ]
