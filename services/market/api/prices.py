"""/api/v1/prices: what operators ask for each GPU model."""

from typing import Annotated

from fastapi import APIRouter, Path

from services.market import pricing
from services.market.api.schemas import PriceView, PriceWish
from services.market.deps import ToolsDep
from shared.app import Session
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/prices", tags=["prices"])

Model = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.get("", summary="Prices of all models", **policy(Policy.OPERATOR))
async def list_prices(session: Session, paging: Paging, tools: ToolsDep) -> Page[PriceView]:
    found, total = await pricing.list_prices(session, tools.settings, paging)
    items = [PriceView.of(each) for each in found]
    return Page(items=items, total=total, page=paging.page, size=paging.size)


@router.put("/{model}", summary="Set a model's price", **policy(Policy.OPERATOR))
async def set_price(
    model: Model, body: PriceWish, caller: Caller, session: Session, tools: ToolsDep
) -> PriceView:
    """For starts from now on; what runs keeps the price at which it started."""
    wish = pricing.NewPrice(
        listed=body.list_price_per_hour,
        card=body.price_per_hour,
        no_card=body.no_card_price_per_hour,
    )
    return PriceView.of(await pricing.set_price(session, tools.settings, model, wish, caller.id))
