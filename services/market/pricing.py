"""What a model costs: the operator's word, or the settings'."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.market.domain.pricing import Price
from services.market.errors import ListPriceTooLow
from services.market.models import PriceRow
from services.market.repository import hosts
from services.market.settings import MarketSettings
from shared.clock import utc_now
from shared.events.market import PriceChanged
from shared.outbox import emit
from shared.pagination import PageRequest, fetch_page


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """is_default: nobody has set it."""

    model: str
    price: Price
    is_default: bool


@dataclass(frozen=True, slots=True)
class NewPrice:
    """In 元 an hour. no_card: None for the settings' one."""

    listed: Decimal
    card: Decimal
    no_card: Decimal | None


async def set_price(
    session: AsyncSession, settings: MarketSettings, model: str, new: NewPrice, by: UUID
) -> ModelPrice:
    """For starts from now on. Raises ListPriceTooLow."""
    if new.listed < new.card:
        raise ListPriceTooLow(field="list_price_per_hour", price=str(new.card))
    values = {
        "model": model,
        "list_price_per_hour": new.listed,
        "price_per_hour": new.card,
        "no_card_price_per_hour": new.no_card,
        "changed_at": utc_now(),
        "changed_by": by,
    }
    await hosts.write_price(session, values)
    payload = PriceChanged(
        model=model,
        list_price_per_hour=new.listed,
        price_per_hour=new.card,
        no_card_price_per_hour=new.no_card,
        by=by,
    )
    await emit(session, payload, subject=model, actor=by)
    return _priced(settings, model, await hosts.find_price(session, model))


async def list_prices(
    session: AsyncSession, settings: MarketSettings, paging: PageRequest
) -> tuple[list[ModelPrice], int]:
    """Of every model that a host has or an operator has priced."""
    models, total = await fetch_page(session, hosts.known_models(), paging)
    rows = await hosts.prices_of(session, models)
    return [_priced(settings, model, rows.get(model)) for model in models], total


def _priced(settings: MarketSettings, model: str, row: PriceRow | None) -> ModelPrice:
    no_card = settings.no_card_price_per_hour
    if row is not None:
        if row.no_card_price_per_hour is not None:
            no_card = row.no_card_price_per_hour
        price = Price(row.list_price_per_hour, row.price_per_hour, no_card)
        return ModelPrice(model, price, is_default=False)
    known = settings.default_prices.get(model)
    if known is None:
        card = settings.default_price_per_hour
        return ModelPrice(model, Price(card, card, no_card), is_default=True)
    price = Price(known.list_price_per_hour, known.price_per_hour, no_card)
    return ModelPrice(model, price, is_default=True)
