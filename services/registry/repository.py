"""Every SQL statement of the image centre."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry.domain.filters import Filters, Tab
from services.registry.domain.states import Kind, State
from services.registry.models import Image
from shared.errors import NotFound

# Any constant: it only has to be the same for all copies of this service.
_RECIPES_LOCK = 0x12EC19E
_LIVE = Image.deleted_at.is_(None)
_IS_SYSTEM = Image.kind == Kind.system.value
RECIPE_FIELDS = (
    "name", "recipe", "base", "rank", "framework", "framework_version", "python", "cuda", "apps",
)  # fmt: skip


def visible(caller_id: UUID, filters: Filters) -> Select[Image]:
    """System images in their order, then the caller's own, newest first."""
    own = Image.owner_id == caller_id
    tabs: dict[Tab | None, ColumnElement[bool]] = {
        Tab.system: _IS_SYSTEM,
        Tab.mine: own,
        None: or_(_IS_SYSTEM, own),
    }
    statement = select(Image).where(_LIVE, tabs[filters.tab])
    if filters.name:
        statement = statement.where(Image.name.icontains(filters.name, autoescape=True))
    if filters.framework:
        statement = statement.where(func.lower(Image.framework) == filters.framework.lower())
    for column, version in ((Image.python, filters.python), (Image.cuda, filters.cuda)):
        if version:
            finer = column.startswith(f"{version}.", autoescape=True)
            statement = statement.where(or_(column == version, finer))
    if filters.status is not None:
        statement = statement.where(Image.status == filters.status.value)
    return statement.order_by(
        Image.kind.desc(), Image.rank, Image.created_at.desc(), Image.id.desc()
    )


async def get_visible(
    session: AsyncSession, image_id: UUID, caller_id: UUID, *, deleted: bool = False
) -> Image:
    """deleted: one that is deleted too. Raises NotFound, also for another's."""
    statement = select(Image).where(
        Image.id == image_id, or_(_IS_SYSTEM, Image.owner_id == caller_id)
    )
    if not deleted:
        statement = statement.where(_LIVE)
    return _found((await session.execute(statement)).scalar_one_or_none())


async def lock_own(session: AsyncSession, image_id: UUID, owner_id: UUID) -> Image:
    """Raises NotFound, also for another's and for system images."""
    statement = select(Image).where(Image.id == image_id, Image.owner_id == owner_id, _LIVE)
    return _found((await session.execute(statement.with_for_update())).scalar_one_or_none())


async def lock(session: AsyncSession, image_id: UUID) -> Image | None:
    """For the platform itself; None when it is deleted or was never there."""
    statement = select(Image).where(Image.id == image_id, _LIVE).with_for_update()
    return (await session.execute(statement)).scalar_one_or_none()


async def find(session: AsyncSession, image_id: UUID) -> Image | None:
    return await session.get(Image, image_id)


async def add(session: AsyncSession, image: Image) -> bool:
    """False when its id is there already; the race of two callers included."""
    row = insert(Image).values(**_values(image)).on_conflict_do_nothing(index_elements=[Image.id])
    return (await session.execute(row.returning(Image.id))).first() is not None


async def lock_names(session: AsyncSession, owner_id: UUID) -> None:
    """Until this transaction ends nobody else gives names to this owner's images."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"),
        {"lock": f"image-names:{owner_id}"},
    )


async def lock_named(session: AsyncSession, owner_id: UUID, name: str) -> Image | None:
    """The owner's live image of that name."""
    statement = select(Image).where(Image.owner_id == owner_id, Image.name == name, _LIVE)
    return (await session.execute(statement.with_for_update())).scalar_one_or_none()


async def overdue(
    session: AsyncSession, *, saves_before: datetime, builds_before: datetime
) -> list[UUID]:
    """Still building, and silent since."""
    statement = select(Image.id).where(
        _LIVE,
        Image.status == State.building.value,
        or_(
            and_(_IS_SYSTEM, Image.heard_at < builds_before),
            and_(~_IS_SYSTEM, Image.heard_at < saves_before),
        ),
    )
    return list((await session.execute(statement)).scalars())


async def system_images(session: AsyncSession) -> list[Image]:
    statement = select(Image).where(_IS_SYSTEM, _LIVE).order_by(Image.rank, Image.name)
    return list((await session.execute(statement)).scalars())


async def deleted_addresses(session: AsyncSession, since: datetime) -> list[str]:
    """Of people's images; a system image whose recipe is gone stays on its hosts."""
    statement = select(Image.address).where(~_IS_SYSTEM, Image.deleted_at >= since)
    return list((await session.execute(statement.order_by(Image.deleted_at))).scalars())


async def in_repository(session: AsyncSession, repository: str) -> list[Image]:
    """Live ones, whatever their tag. repository: with its registry."""
    statement = select(Image).where(
        _LIVE, Image.address.startswith(f"{repository}:", autoescape=True)
    )
    return list((await session.execute(statement)).scalars())


async def with_manifests(session: AsyncSession, registry: str) -> list[Image]:
    """Deleted images of people that the registry may still have; some of them at a time."""
    statement = select(Image).where(
        ~_IS_SYSTEM,
        Image.deleted_at.is_not(None),
        Image.manifest_gone_at.is_(None),
        Image.address.startswith(registry, autoescape=True),
    )
    found = await session.execute(statement.order_by(Image.deleted_at).limit(100))
    return list(found.scalars())


async def put_system(session: AsyncSession, images: Sequence[Image]) -> None:
    """By address: new ones are added, known ones get what their recipe says now."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _RECIPES_LOCK})
    for image in images:
        row = insert(Image).values(**_values(image))
        told = {name: row.excluded[name] for name in (*RECIPE_FIELDS, "heard_at")}
        again = row.on_conflict_do_update(
            index_elements=[Image.address], set_={**told, "deleted_at": None}
        )
        await session.execute(again)


async def withdraw_system(session: AsyncSession, *, keep: Collection[str], now: datetime) -> None:
    statement = update(Image).where(_IS_SYSTEM, _LIVE, Image.address.not_in(keep))
    await session.execute(statement.values(deleted_at=now))


def _values(image: Image) -> dict[str, object]:
    return {c.name: getattr(image, c.name) for c in Image.__table__.columns}


def _found(image: Image | None) -> Image:
    if image is None:
        raise NotFound
    return image


async def count_by_status(session: AsyncSession) -> dict[tuple[str, str], int]:
    """By kind and status, those that are not deleted."""
    statement = (
        select(Image.kind, Image.status, func.count()).where(_LIVE)
        .group_by(Image.kind, Image.status)
    )  # fmt: skip
    return {(row[0], row[1]): row[2] for row in (await session.execute(statement)).all()}
