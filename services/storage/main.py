"""Composes storage."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from services.storage import repository
from services.storage.api import files, usage
from services.storage.clearing import return_promises
from services.storage.clients.auth import AuthClient, HttpAuth
from services.storage.entries import Usage
from services.storage.life import RENEW_S, Life
from services.storage.quota import Volumes
from services.storage.settings import StorageSettings
from services.storage.sftp.door import SftpDoor
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.events import Envelope
from shared.events.auth import AccountApproved
from shared.inbox import consume, on
from shared.tokens import KeySource
from shared.worker import LoneWorker, Worker

DEBTS_S = 1.0
PROMISES_S = 5.0


def create_app(
    settings: StorageSettings,
    *,
    key_source: KeySource | None = None,
    auth: AuthClient | None = None,
) -> FastAPI:
    """auth: over HTTP unless given."""
    quota = Usage(settings.default_quota_bytes, settings.default_quota_files)

    async def make_volume(
        session: AsyncSession, approved: AccountApproved, event: Envelope
    ) -> None:
        # The folders come with the first use; the row lets an operator see and change the quota.
        await repository.ensure(session, approved.account_id, quota)

    async def setup(
        app: FastAPI, runtime: Runtime
    ) -> tuple[Sequence[Subscription], Sequence[Worker]]:
        life = Life(runtime.database)
        await life.begin()
        runtime.stack.push_async_callback(life.end)
        volumes = Volumes(runtime.database, settings.root, quota, life)
        app.state.volumes = volumes
        subscriptions = [
            consume(runtime.database, "storage.volumes", on(AccountApproved, make_volume))
        ]
        workers = [
            Worker("storage.life", RENEW_S, life.keep),
            Worker("storage.debts", DEBTS_S, volumes.pay_debts),
            LoneWorker("storage.promises", PROMISES_S, return_promises),
            LoneWorker("storage.count", settings.scan_interval_s, volumes.count_all),
        ]
        app.state.sftp_public = None
        if settings.sftp_port is not None:
            door = SftpDoor(
                settings, volumes, auth or HttpAuth(runtime.auth, runtime.service_token)
            )
            runtime.stack.push_async_callback(door.close)
            await door.open()
            app.state.sftp_door = door
            app.state.sftp_public = door.public
            subscriptions.append(door.disablings(f"storage.sftp.{life.id}"))
            workers.append(Worker("storage.sftp", settings.sftp_check_s, door.check_accounts))
        return subscriptions, workers

    return create_service_app(
        "storage",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=(files.router, usage.router),
        setup=setup,
        key_source=key_source,
    )
