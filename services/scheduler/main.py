"""Composes the scheduler."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from services.scheduler import consumers
from services.scheduler.api import instances, internal, joining, nodes
from services.scheduler.clients.market import HttpMarket, MarketClient
from services.scheduler.clients.registry import HttpRegistry, RegistryClient
from services.scheduler.measuring import Measuring
from services.scheduler.settings import SchedulerSettings
from services.scheduler.signals import Signals
from services.scheduler.throttle import JoinThrottle
from services.scheduler.tools import Tools
from services.scheduler.workers import workers
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.bus.admission import Admission
from shared.tokens import KeySource
from shared.worker import Worker


def create_app(
    settings: SchedulerSettings,
    *,
    key_source: KeySource | None = None,
    market: MarketClient | None = None,
    registry: RegistryClient | None = None,
    admission: Admission | None = None,
) -> FastAPI:
    """market, registry, admission: over HTTP unless given; no admission where the settings name no
    broker."""

    async def setup(
        app: FastAPI, runtime: Runtime
    ) -> tuple[Sequence[Subscription], Sequence[Worker]]:
        tools = Tools(
            settings=settings,
            database=runtime.database,
            bus=runtime.bus,
            signals=Signals(),
            market=market or HttpMarket(runtime.client(settings.market_url)),
            registry=registry or HttpRegistry(runtime.client(settings.registry_url)),
            admission=admission,
            joins=JoinThrottle(runtime.redis),
        )
        app.state.tools = tools
        runtime.pulse.figures = Measuring().figures
        heard = (consumers.reports, consumers.ssh_keys, consumers.enforced_stops)
        return [subscription(tools) for subscription in heard], workers(tools)

    return create_service_app(
        "scheduler",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=(instances.router, joining.router, nodes.router, internal.router),
        setup=setup,
        key_source=key_source,
    )
