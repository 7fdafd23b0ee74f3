"""Composes the image centre."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from services.registry import consumers
from services.registry.api import images, internal
from services.registry.api import oci as oci_door
from services.registry.building import put_recipes
from services.registry.clients.oci import HttpOci, OciClient
from services.registry.clients.scheduler import HttpScheduler, SchedulerClient
from services.registry.logins import Logins
from services.registry.measuring import figures
from services.registry.recipes import read_recipes
from services.registry.settings import RegistrySettings
from services.registry.tools import Tools
from services.registry.workers import workers
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.tokens import KeySource
from shared.worker import Worker


def create_app(
    settings: RegistrySettings,
    *,
    key_source: KeySource | None = None,
    scheduler: SchedulerClient | None = None,
    oci: OciClient | None = None,
) -> FastAPI:
    """scheduler, oci: over HTTP unless given. At its start RecipesError is raised for a recipe
    that cannot be read."""

    async def setup(
        app: FastAPI, runtime: Runtime
    ) -> tuple[Sequence[Subscription], Sequence[Worker]]:
        nodes = scheduler or HttpScheduler(
            runtime.client(settings.scheduler_url), runtime.service_token
        )
        store = oci
        if store is None and settings.oci_url:
            store = HttpOci(runtime.client(settings.oci_url), settings.oci_credentials)
        tools = Tools(
            settings=settings,
            database=runtime.database,
            bus=runtime.bus,
            logins=Logins(nodes, settings.login_known_s),
            oci=store,
        )
        app.state.tools = tools
        runtime.pulse.figures = figures
        if settings.recipes is not None:
            recipes = await asyncio.to_thread(read_recipes, settings.recipes)
            async with tools.database.transaction() as session:
                await put_recipes(session, recipes, registry=settings.oci_address)
        return [consumers.saves(tools), consumers.reports(tools)], workers(tools)

    return create_service_app(
        "registry",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=(images.router, internal.router, oci_door.router),
        setup=setup,
        key_source=key_source,
    )
