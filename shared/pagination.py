"""Every list is a page with a total."""

from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """items: at most `size`; total: over all pages; page: counted from 1."""

    items: list[T]
    total: int
    page: int
    size: int


class PageRequest:
    def __init__(
        self,
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
        size: Annotated[int, Query(ge=1, le=200)] = 20,
    ) -> None:
        self.page = page
        self.size = size

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size


Paging = Annotated[PageRequest, Depends()]


async def fetch_page(
    session: AsyncSession, statement: Select[T], paging: PageRequest
) -> tuple[list[T], int]:
    """The rows of one page (the statement brings its own order) and the total."""
    count = select(func.count()).select_from(statement.order_by(None).subquery())
    total = (await session.execute(count)).scalar_one()
    rows = await session.execute(statement.offset(paging.offset).limit(paging.size))
    return list(rows.scalars()), total
