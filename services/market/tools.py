"""What the use cases work with."""

from dataclasses import dataclass

from services.market.clients.scheduler import SchedulerClient
from services.market.settings import MarketSettings
from shared.database import Database


@dataclass(frozen=True, slots=True)
class Tools:
    settings: MarketSettings
    database: Database
    scheduler: SchedulerClient
