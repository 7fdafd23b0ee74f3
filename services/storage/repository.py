"""Every SQL statement of storage."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.storage.entries import Usage
from services.storage.models import VolumeRow


async def ensure(session: AsyncSession, account_id: UUID, quota: Usage) -> None:
    """A volume with this quota, unless the account has one."""
    row = insert(VolumeRow).values(
        account_id=account_id,
        quota_bytes=quota.bytes,
        quota_files=quota.files,
        used_bytes=0,
        used_files=0,
        reserved_bytes=0,
    )
    await session.execute(row.on_conflict_do_nothing())


async def load(session: AsyncSession, account_id: UUID) -> VolumeRow:
    statement = select(VolumeRow).where(VolumeRow.account_id == account_id)
    return (await session.execute(statement)).scalar_one()


async def account_ids(session: AsyncSession) -> list[UUID]:
    return list((await session.execute(select(VolumeRow.account_id))).scalars())


async def reserve(session: AsyncSession, account_id: UUID, size_bytes: int) -> bool:
    """One conditional update, so that uploads at the same time cannot exceed the quota."""
    v = VolumeRow
    statement = (
        update(v)
        .where(
            v.account_id == account_id,
            v.used_bytes + v.reserved_bytes + size_bytes <= v.quota_bytes,
            v.used_files < v.quota_files,
        )
        .values(reserved_bytes=v.reserved_bytes + size_bytes)
        .returning(v.account_id)
    )
    return (await session.execute(statement)).first() is not None


async def claim_file(session: AsyncSession, account_id: UUID) -> bool:
    """One more file or folder, unless there are as many as may be."""
    v = VolumeRow
    statement = (
        update(v)
        .where(v.account_id == account_id, v.used_files < v.quota_files)
        .values(used_files=v.used_files + 1)
        .returning(v.account_id)
    )
    return (await session.execute(statement)).first() is not None


async def grow(session: AsyncSession, account_id: UUID, size_bytes: int) -> bool:
    """As `reserve`, for a file that is there already."""
    v = VolumeRow
    statement = (
        update(v)
        .where(
            v.account_id == account_id,
            v.used_bytes + v.reserved_bytes + size_bytes <= v.quota_bytes,
        )
        .values(reserved_bytes=v.reserved_bytes + size_bytes)
        .returning(v.account_id)
    )
    return (await session.execute(statement)).first() is not None


async def settle(
    session: AsyncSession, account_id: UUID, *, reserved: int, used_bytes: int, used_files: int
) -> None:
    """A promise ends: what was kept of it counts as used."""
    v = VolumeRow
    await session.execute(
        update(v)
        .where(v.account_id == account_id)
        .values(
            reserved_bytes=func.greatest(v.reserved_bytes - reserved, 0),
            used_bytes=v.used_bytes + used_bytes,
            used_files=v.used_files + used_files,
        )
    )


async def record_count(
    session: AsyncSession, account_id: UUID, usage: Usage, *, before: VolumeRow
) -> None:
    """before: the row as it was when counting began; what was settled since may have been missed
    by the count, so it stays on top."""
    v = VolumeRow
    since_bytes = v.used_bytes - before.used_bytes
    since_files = v.used_files - before.used_files
    await session.execute(
        update(v)
        .where(v.account_id == account_id)
        .values(
            used_bytes=usage.bytes + func.greatest(since_bytes, 0),
            used_files=usage.files + func.greatest(since_files, 0),
            counted_at=func.now(),
        )
    )


async def set_quota(session: AsyncSession, account_id: UUID, quota_bytes: int) -> None:
    await session.execute(
        update(VolumeRow).where(VolumeRow.account_id == account_id).values(quota_bytes=quota_bytes)
    )


async def forget_reservations(session: AsyncSession) -> None:
    await session.execute(update(VolumeRow).values(reserved_bytes=0))
