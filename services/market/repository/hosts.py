"""Hosts as the scheduler told them, and the prices of their cards."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Numeric,
    Row,
    Select,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.market.domain.offer import OfferStatus
from services.market.domain.pricing import Price
from services.market.models import Host, PriceRow
from services.market.settings import MarketSettings
from shared.pagination import PageRequest

RANKS = (OfferStatus.rentable, OfferStatus.sold_out, OfferStatus.offline)


@dataclass(frozen=True, slots=True)
class Filter:
    """Memory in GB of one card, price in 元 of one card and hour. cuda_rank: at least."""

    region: str | None = None
    gpu_count: int | None = None
    models: tuple[str, ...] = ()
    gpu_memory_min: int | None = None
    gpu_memory_max: int | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    cuda_rank: int = 0


@dataclass(frozen=True, slots=True)
class PricedHost:
    host: Host
    price: Price
    status: OfferStatus


async def record_host(session: AsyncSession, values: dict[str, Any]) -> None:
    """Nothing changes when a later telling is known already."""
    row = insert(Host).values(**values)
    fresh = {name: row.excluded[name] for name in values if name != "id"}
    await session.execute(
        row.on_conflict_do_update(
            index_elements=[Host.id], set_=fresh, where=Host.sequence < row.excluded.sequence
        )
    )


async def find_priced(
    session: AsyncSession, settings: MarketSettings, host_id: UUID
) -> PricedHost | None:
    """None for one that was removed, too."""
    statement = _priced(settings, asked=1).where(Host.id == host_id, _is_there())
    row = (await session.execute(statement)).first()
    return None if row is None else _to_priced(row)


async def list_priced(
    session: AsyncSession, settings: MarketSettings, wanted: Filter, paging: PageRequest
) -> tuple[list[PricedHost], int]:
    """Rentable ones first, then the cheapest."""
    where = _conditions(settings, wanted)
    count = select(func.count()).select_from(Host)
    joined = count.join(PriceRow, PriceRow.model == Host.gpu_model, isouter=True).where(where)
    total = (await session.execute(joined)).scalar_one()
    asked = wanted.gpu_count or 1
    rank = case(*((_status(asked) == s.value, i) for i, s in enumerate(RANKS)), else_=len(RANKS))
    statement = (
        _priced(settings, asked=asked)
        .where(where)
        .order_by(rank, _card(settings), Host.name, Host.id)
        .offset(paging.offset)
        .limit(paging.size)
    )
    return [_to_priced(row) for row in await session.execute(statement)], total


async def all_priced(session: AsyncSession, settings: MarketSettings) -> list[PricedHost]:
    statement = _priced(settings, asked=1).where(_is_there())
    statement = statement.order_by(Host.region, Host.gpu_model)
    return [_to_priced(row) for row in await session.execute(statement)]


async def find_price(session: AsyncSession, model: str) -> PriceRow | None:
    return await session.get(PriceRow, model, populate_existing=True)


async def prices_of(session: AsyncSession, models: list[str]) -> dict[str, PriceRow]:
    rows = (await session.execute(select(PriceRow).where(PriceRow.model.in_(models)))).scalars()
    return {row.model: row for row in rows}


def known_models() -> Select[str]:
    """Of hosts, and those that an operator has given a price."""
    hosts = select(Host.gpu_model.label("model")).where(Host.gpu_model != "", _is_there())
    models = union(hosts, select(PriceRow.model)).subquery()
    return select(models.c.model).order_by(models.c.model)


async def write_price(session: AsyncSession, values: dict[str, Any]) -> None:
    row = insert(PriceRow).values(**values)
    fresh = {name: row.excluded[name] for name in values if name != "model"}
    await session.execute(row.on_conflict_do_update(index_elements=[PriceRow.model], set_=fresh))


def _priced(
    settings: MarketSettings, *, asked: int
) -> Select[Host, Decimal, Decimal, Decimal, str]:
    columns = (_listed(settings), _card(settings), _no_card(settings), _status(asked))
    joined = select(Host, *columns).join(PriceRow, PriceRow.model == Host.gpu_model, isouter=True)
    return joined.execution_options(populate_existing=True)


def _to_priced(row: Row[Host, Decimal, Decimal, Decimal, str]) -> PricedHost:
    host, listed, card, no_card, status = row
    return PricedHost(host, Price(listed, card, no_card), OfferStatus(status))


def _conditions(settings: MarketSettings, wanted: Filter) -> ColumnElement[bool]:
    card = _card(settings)
    tests: list[ColumnElement[bool]] = [_is_there(), Host.cuda_rank >= wanted.cuda_rank]
    if wanted.region is not None:
        tests.append(Host.region == wanted.region)
    if wanted.gpu_count is not None:
        tests.append(Host.gpu_total >= wanted.gpu_count)
    if wanted.models:
        tests.append(or_(*(Host.gpu_model == model for model in wanted.models)))
    bounds = (
        (Host.gpu_memory_gb, wanted.gpu_memory_min, wanted.gpu_memory_max),
        (card, wanted.price_min, wanted.price_max),
    )
    for value, least, most in bounds:
        if least is not None:
            tests.append(value >= least)
        if most is not None:
            tests.append(value <= most)
    return and_(true(), *tests)


def _is_there() -> ColumnElement[bool]:
    return Host.state != "removed"


def _status(asked: int) -> ColumnElement[str]:
    return case(
        (Host.state != "online", OfferStatus.offline.value),
        (Host.gpu_free < asked, OfferStatus.sold_out.value),
        else_=OfferStatus.rentable.value,
    )


def _card(settings: MarketSettings) -> ColumnElement[Decimal]:
    defaults = {m: p.price_per_hour for m, p in settings.default_prices.items()}
    fallback = _by_model(defaults, settings.default_price_per_hour)
    return func.coalesce(PriceRow.price_per_hour, fallback)


def _listed(settings: MarketSettings) -> ColumnElement[Decimal]:
    defaults = {m: p.list_price_per_hour for m, p in settings.default_prices.items()}
    fallback = _by_model(defaults, settings.default_price_per_hour)
    return func.coalesce(PriceRow.list_price_per_hour, fallback)


def _no_card(settings: MarketSettings) -> ColumnElement[Decimal]:
    fallback = literal(settings.no_card_price_per_hour, Numeric(18, 4))
    return func.coalesce(PriceRow.no_card_price_per_hour, fallback)


def _by_model(prices: dict[str, Decimal], otherwise: Decimal) -> ColumnElement[Decimal]:
    default = literal(otherwise, Numeric(18, 4))
    if not prices:
        return default
    known = ((Host.gpu_model == m, literal(p, Numeric(18, 4))) for m, p in prices.items())
    return case(*known, else_=default)
