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
from shared.bus.admission import Admission, BrokerAdmission
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
            admission=admission or await _open_broker(settings, runtime),
            joins=JoinThrottle(runtime.redis),
        )
        app.state.tools = tools
        runtime.pulse.figures = Measuring().figures
        heard = (
            consumers.reports,
            consumers.ssh_keys,
            consumers.enforced_stops,
            consumers.leases,
        )
        return [subscription(tools) for subscription in heard], workers(tools)

    return create_service_app(
        "scheduler",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=(instances.router, joining.router, nodes.router, internal.router),
        setup=setup,
        key_source=key_source,
    )


async def _open_broker(settings: SchedulerSettings, runtime: Runtime) -> Admission | None:
    """Closed with the service."""
    if settings.broker_admin_url is None:
        return None
    url = settings.broker_admin_url.get_secret_value()
    return await runtime.stack.enter_async_context(BrokerAdmission(url))
