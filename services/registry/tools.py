"""What the use cases work with."""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.settings import RegistrySettings
from shared.bus import Bus
from shared.database import Database, call_after_commit


@dataclass(frozen=True, slots=True)
class Tools:
    """wanted: set when hosts must be told anew what should be there."""

    settings: RegistrySettings
    database: Database
    bus: Bus
    wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def want_changed(self, session: AsyncSession) -> None:
        call_after_commit(session, self.wanted.set)
