"""/api/v1/offers, /api/v1/market: what can be rented, and what it costs."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from services.market import offering
from services.market.api.schemas import LINE, OfferView, OptionsView
from services.market.deps import ToolsDep
from services.market.domain.offer import cuda_rank
from services.market.repository.hosts import Filter
from shared.app import CallerLanguage, Session
from shared.pagination import Page, Paging
from shared.policy import Policy, policy

router = APIRouter(prefix="/api/v1", tags=["market"])

Model = Annotated[str, Query(max_length=100, pattern=LINE)]
Count = Annotated[int | None, Query(ge=1, le=64)]
Gigabytes = Annotated[int | None, Query(ge=0, le=100_000)]
Price = Annotated[Decimal | None, Query(ge=0, le=1_000_000, decimal_places=4)]
Cuda = Annotated[str | None, Query(pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){0,3})?$")]


class OfferQuery:
    """gpu_count hides hosts with fewer cards in all and marks those with fewer free as sold out.
    image_cuda: only hosts whose driver supports it."""

    def __init__(
        self,
        region: Annotated[str | None, Query(max_length=100, pattern=LINE)] = None,
        gpu_count: Count = None,
        model: Annotated[list[Model], Query(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
        gpu_memory_min: Gigabytes = None,
        gpu_memory_max: Gigabytes = None,
        price_min: Price = None,
        price_max: Price = None,
        image_cuda: Cuda = None,
    ) -> None:
        self.filter = Filter(
            region=region,
            gpu_count=gpu_count,
            models=tuple(model),
            gpu_memory_min=gpu_memory_min,
            gpu_memory_max=gpu_memory_max,
            price_min=price_min,
            price_max=price_max,
            cuda_rank=cuda_rank(image_cuda or ""),
        )


Wanted = Annotated[OfferQuery, Depends()]


@router.get("/offers", summary="Hosts to rent on", **policy(Policy.ANY_ACCOUNT))
async def list_offers(
    wanted: Wanted, session: Session, paging: Paging, tools: ToolsDep
) -> Page[OfferView]:
    """Rentable ones first, then the cheapest. Hosts that are sold out or offline are shown too."""
    found, total = await offering.list_offers(session, tools.settings, wanted.filter, paging)
    items = [OfferView.of(each) for each in found]
    return Page(items=items, total=total, page=paging.page, size=paging.size)


@router.get("/offers/{offer_id}", summary="One host", **policy(Policy.ANY_ACCOUNT))
async def show_offer(offer_id: UUID, session: Session, tools: ToolsDep) -> OfferView:
    return OfferView.of(await offering.show_offer(session, tools.settings, offer_id))


@router.get("/market/options", summary="What to choose from", **policy(Policy.ANY_ACCOUNT))
async def show_options(session: Session, tools: ToolsDep, language: CallerLanguage) -> OptionsView:
    """Regions, models with their cards, the ranges of the sliders, and the market's banner."""
    return OptionsView.of(await offering.list_options(session, tools.settings), language)
