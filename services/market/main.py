"""Composes the market."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from services.market import consumers
from services.market.api import bills, internal, offers, prices, wallets
from services.market.clients.scheduler import HttpScheduler, SchedulerClient
from services.market.measuring import figures
from services.market.settings import MarketSettings
from services.market.tools import Tools
from services.market.workers import workers
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.tokens import KeySource
from shared.worker import Worker

ROUTERS = (offers.router, wallets.router, bills.router, prices.router, internal.router)


def create_app(
    settings: MarketSettings,
    *,
    key_source: KeySource | None = None,
    scheduler: SchedulerClient | None = None,
) -> FastAPI:
    """key_source: where token keys come from; auth's key set unless given. scheduler: over HTTP
    unless given."""

    async def setup(
        app: FastAPI, runtime: Runtime
    ) -> tuple[Sequence[Subscription], Sequence[Worker]]:
        runs = scheduler or HttpScheduler(
            runtime.client(settings.scheduler_url), runtime.service_token
        )
        tools = Tools(settings, runtime.database, runs)
        app.state.tools = tools
        runtime.pulse.figures = figures
        heard = (consumers.offers, consumers.runs, consumers.proofs, consumers.wallets)
        return [subscription(tools) for subscription in heard], workers(tools)

    return create_service_app(
        "market",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=ROUTERS,
        setup=setup,
        key_source=key_source,
    )
