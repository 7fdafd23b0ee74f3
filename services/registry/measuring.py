"""Images as gauges, and as figures for whoever asks how the platform is."""

from collections.abc import Mapping

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.domain.states import Kind, State
from services.registry.repository import count_by_status

IMAGES = Gauge("chusuan_registry_images", "Images by kind and status", ("kind", "status"))


async def figures(session: AsyncSession) -> Mapping[str, float]:
    found = await count_by_status(session)
    for kind in Kind:
        for state in State:
            count = found.get((kind.value, state.value), 0)
            IMAGES.labels(kind.value, state.value).set(count)
    failed = State.failed.value
    return {
        "system_images_failed": found.get((Kind.system.value, failed), 0),
        "saved_images_failed": found.get((Kind.saved.value, failed), 0),
    }
