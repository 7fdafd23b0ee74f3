"""Every SQL statement of storage."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.storage.entries import Usage
from services.storage.models import Promise, VolumeRow


@dataclass(frozen=True, slots=True)
class Room:
    """So much for an account, promised by one copy of storage."""

    copy_id: UUID
    account_id: UUID
    size_bytes: int


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


async def reserve(session: AsyncSession, promise: Room) -> bool:
    """One conditional update, so that uploads at the same time cannot exceed the quota."""
    return await _promise(session, promise, VolumeRow.used_files < VolumeRow.quota_files)


async def grow(session: AsyncSession, promise: Room) -> bool:
    """As `reserve`, for a file that is there already."""
    return await _promise(session, promise)


async def _promise(session: AsyncSession, room: Room, *also: ColumnElement[bool]) -> bool:
    v = VolumeRow
    statement = (
        update(v)
        .where(
            v.account_id == room.account_id,
            v.used_bytes + v.reserved_bytes + room.size_bytes <= v.quota_bytes,
            *also,
        )
        .values(reserved_bytes=v.reserved_bytes + room.size_bytes)
        .returning(v.account_id)
    )
    if (await session.execute(statement)).first() is None:
        return False
    row = insert(Promise).values(
        copy_id=room.copy_id, account_id=room.account_id, reserved_bytes=room.size_bytes
    )
    more = Promise.reserved_bytes + row.excluded.reserved_bytes
    await session.execute(
        row.on_conflict_do_update(
            index_elements=[Promise.copy_id, Promise.account_id], set_={"reserved_bytes": more}
        )
    )
    return True


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


_SETTLE = text(
    """
    WITH volume AS MATERIALIZED (
        SELECT account_id FROM volumes WHERE account_id = :account_id FOR UPDATE),
    held AS MATERIALIZED (
        SELECT copy_id, account_id, least(reserved_bytes, :reserved) AS returned
        FROM promises JOIN volume USING (account_id)
        WHERE copy_id = :copy_id FOR UPDATE OF promises),
    kept AS (
        UPDATE promises SET reserved_bytes = reserved_bytes - held.returned FROM held
        WHERE promises.copy_id = held.copy_id AND promises.account_id = held.account_id)
    UPDATE volumes
    SET reserved_bytes = reserved_bytes - coalesce((SELECT returned FROM held), 0),
        used_bytes = used_bytes + :used_bytes, used_files = used_files + :used_files
    WHERE account_id = :account_id
    """
)


async def settle(session: AsyncSession, room: Room, *, used_bytes: int, used_files: int) -> None:
    """A promise ends: what was kept of it counts as used. Of a copy that was taken for dead
    nothing is left to return."""
    values = {
        "account_id": room.account_id,
        "copy_id": room.copy_id,
        "reserved": room.size_bytes,
        "used_bytes": used_bytes,
        "used_files": used_files,
    }
    await session.execute(_SETTLE, values)


async def bury(session: AsyncSession, prefix: str) -> None:
    """Copies whose lease ran out are dead from now on; who only stood still finds no lease to
    renew."""
    await session.execute(
        text(
            "DELETE FROM leases"
            " WHERE starts_with(name, :prefix) AND expires_at <= clock_timestamp()"
        ),
        {"prefix": prefix},
    )


async def living(session: AsyncSession, prefix: str) -> set[UUID]:
    statement = text("SELECT name FROM leases WHERE starts_with(name, :prefix)")
    names = (await session.execute(statement, {"prefix": prefix})).scalars()
    return {UUID(name.removeprefix(prefix)) for name in names}


async def orphans(session: AsyncSession, prefix: str) -> list[tuple[UUID, UUID]]:
    """Copy and account of promises that no living copy holds, and of those that are used up."""
    statement = text(
        """
        SELECT copy_id, account_id FROM promises WHERE NOT EXISTS (
            SELECT 1 FROM leases WHERE name = CAST(:prefix AS text) || CAST(copy_id AS text))
        """
    )
    return [(row[0], row[1]) for row in (await session.execute(statement, {"prefix": prefix}))]


async def return_promise(session: AsyncSession, copy_id: UUID, account_id: UUID) -> int:
    """How many bytes it held."""
    volume = select(VolumeRow).where(VolumeRow.account_id == account_id).with_for_update()
    row = (await session.execute(volume)).scalar_one()
    gone = delete(Promise).where(Promise.copy_id == copy_id, Promise.account_id == account_id)
    returned = await session.execute(
        gone.returning(Promise.reserved_bytes).execution_options(synchronize_session=False)
    )
    size_bytes = returned.scalar_one_or_none() or 0
    row.reserved_bytes -= size_bytes
    return size_bytes


async def record_count(
    session: AsyncSession, account_id: UUID, usage: Usage, *, before: VolumeRow
) -> None:
    """before: the row as it was when counting began; what was settled since may have been missed
    by the count, so it stays on top. Dropped where another copy has counted meanwhile: what it
    found more would stay on top, too."""
    v = VolumeRow
    since_bytes = v.used_bytes - before.used_bytes
    since_files = v.used_files - before.used_files
    await session.execute(
        update(v)
        .where(v.account_id == account_id, v.counted_at.is_not_distinct_from(before.counted_at))
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
