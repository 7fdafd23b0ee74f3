"""What the use cases work with."""

from dataclasses import dataclass

from services.scheduler.clients.market import MarketClient
from services.scheduler.clients.registry import RegistryClient
from services.scheduler.settings import SchedulerSettings
from services.scheduler.signals import Signals
from shared.bus import Bus
from shared.database import Database


@dataclass(frozen=True, slots=True)
class Tools:
    settings: SchedulerSettings
    database: Database
    bus: Bus
    signals: Signals
    market: MarketClient
    registry: RegistryClient
