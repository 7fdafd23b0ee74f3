"""What the use cases work with."""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.clients.oci import OciClient
from services.registry.logins import Logins
from services.registry.settings import RegistrySettings
from shared.bus import Bus
from shared.database import Database, call_after_commit


@dataclass(frozen=True, slots=True)
class Tools:
    """wanted: set when hosts must be told anew what should be there. oci: None where there is no
    OCI registry that this service reaches."""

    settings: RegistrySettings
    database: Database
    bus: Bus
    logins: Logins
    oci: OciClient | None = None
    wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def want_changed(self, session: AsyncSession) -> None:
        call_after_commit(session, self.wanted.set)
