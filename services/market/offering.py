"""Hosts become offers."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.market.domain.offer import OfferStatus, cuda_rank
from services.market.errors import UnknownHost
from services.market.repository import hosts
from services.market.repository.hosts import Filter, PricedHost
from services.market.settings import MarketSettings
from shared.events.scheduler import NodeChanged
from shared.pagination import PageRequest

MIB_PER_GB = 1024
BYTES_PER_GB = 1 << 30


async def note_host(session: AsyncSession, node: NodeChanged, sequence: int) -> None:
    """An older telling than the one known is refused."""
    values = {
        "id": node.node_id,
        "sequence": sequence,
        "name": node.name,
        "region": node.region,
        "state": node.state,
        "simulated": node.simulated,
        "gpu_model": node.gpu_model,
        # Cards report a little less than is printed on them.
        "gpu_memory_gb": round(node.gpu_memory_mib / MIB_PER_GB),
        "gpu_total": node.gpu_total,
        "gpu_free": node.gpu_free,
        "cpu_model": node.cpu_model,
        "cpu_cores": node.cpu_cores,
        "memory_gb": node.memory_bytes // BYTES_PER_GB,
        "disk_gb": node.disk_bytes // BYTES_PER_GB,
        "driver_version": node.driver_version,
        "max_cuda": node.max_cuda,
        "cuda_rank": cuda_rank(node.max_cuda),
        "tflops": node.tflops,
    }
    await hosts.record_host(session, values)


async def list_offers(
    session: AsyncSession, settings: MarketSettings, wanted: Filter, paging: PageRequest
) -> tuple[list[PricedHost], int]:
    return await hosts.list_priced(session, settings, wanted, paging)


async def show_offer(session: AsyncSession, settings: MarketSettings, host_id: UUID) -> PricedHost:
    """Raises UnknownHost."""
    found = await hosts.find_priced(session, settings, host_id)
    if found is None:
        raise UnknownHost
    return found


@dataclass(frozen=True, slots=True)
class ModelCount:
    model: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Options:
    """What can be chosen from. The ranges are None while there is no host."""

    regions: list[str]
    models: list[ModelCount]
    gpu_count: tuple[int, int] | None
    gpu_memory_gb: tuple[int, int] | None
    price_per_hour: tuple[Decimal, Decimal] | None


async def list_options(session: AsyncSession, settings: MarketSettings) -> Options:
    with_cards = [h for h in await hosts.all_priced(session, settings) if h.host.gpu_total > 0]
    prices = [h.price.card for h in with_cards]
    memory = [h.host.gpu_memory_gb for h in with_cards]
    return Options(
        regions=sorted({h.host.region for h in with_cards}),
        models=_count_models(with_cards),
        gpu_count=(1, max(h.host.gpu_total for h in with_cards)) if with_cards else None,
        gpu_memory_gb=(min(memory), max(memory)) if memory else None,
        price_per_hour=(min(prices), max(prices)) if prices else None,
    )


def _count_models(found: Iterable[PricedHost]) -> list[ModelCount]:
    """Cards of a host that does not answer are not free."""
    counts: dict[str, ModelCount] = {}
    for each in found:
        model = each.host.gpu_model
        before = counts.get(model, ModelCount(model, 0, 0))
        free = 0 if each.status is OfferStatus.offline else each.host.gpu_free
        counts[model] = ModelCount(model, before.free + free, before.total + each.host.gpu_total)
    return [counts[model] for model in sorted(counts)]
