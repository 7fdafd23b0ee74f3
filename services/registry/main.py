"""Composes the image centre."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from services.registry import consumers
from services.registry.api import images, internal
from services.registry.building import put_recipes
from services.registry.measuring import figures
from services.registry.recipes import read_recipes
from services.registry.settings import RegistrySettings
from services.registry.tools import Tools
from services.registry.workers import workers
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.tokens import KeySource
from shared.worker import Worker


def create_app(settings: RegistrySettings, *, key_source: KeySource | None = None) -> FastAPI:
    """At its start RecipesError is raised for a recipe that cannot be read."""

    async def setup(
        app: FastAPI, runtime: Runtime
    ) -> tuple[Sequence[Subscription], Sequence[Worker]]:
        tools = Tools(settings=settings, database=runtime.database, bus=runtime.bus)
        app.state.tools = tools
        runtime.pulse.figures = figures
        if settings.recipes is not None:
            recipes = await asyncio.to_thread(read_recipes, settings.recipes)
            async with tools.database.transaction() as session:
                await put_recipes(session, recipes)
        return [consumers.saves(tools), consumers.reports(tools)], workers(tools)

    return create_service_app(
        "registry",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=(images.router, internal.router),
        setup=setup,
        key_source=key_source,
    )
