"""What the use cases work with."""

from dataclasses import dataclass

from services.scheduler.clients.market import MarketClient
from services.scheduler.clients.registry import RegistryClient
from services.scheduler.settings import SchedulerSettings
from services.scheduler.signals import Signals
from services.scheduler.throttle import JoinThrottle
from shared.bus import Bus
from shared.bus.admission import Admission
from shared.database import Database


@dataclass(frozen=True, slots=True)
class Tools:
    """admission: None where no broker is, and no host can join."""

    settings: SchedulerSettings
    database: Database
    bus: Bus
    signals: Signals
    market: MarketClient
    registry: RegistryClient
    admission: Admission | None
    joins: JoinThrottle
