"""Instances, their history, and the SSH keys of their owners."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only
from sqlalchemy.orm.attributes import set_committed_value

from services.scheduler.domain.states import State
from services.scheduler.models import HistoryEntry, Instance, SshKey
from shared.errors import NotFound

LIVE = tuple(s.value for s in State if s is not State.released)


_JUDGED = (
    Instance.state, Instance.resume, Instance.mode, Instance.generation, Instance.start_token,
    Instance.authorisation_id, Instance.next_authorisation_id, Instance.started_at,
    Instance.start_ordered_at, Instance.stopped_at, Instance.releasing_at, Instance.stop_reason,
    Instance.save_image_id,
    Instance.progress_mark, Instance.traceparent,
)  # fmt: skip


class Stale(RuntimeError):
    """Somebody else moved it first; nothing has been changed."""


async def get_instance(
    session: AsyncSession, instance_id: UUID, *, owner_id: UUID | None, lock: bool = False
) -> Instance:
    """owner_id: None for the platform itself. Raises NotFound, also for another's."""
    statement = select(Instance).where(Instance.id == instance_id)
    if owner_id is not None:
        statement = statement.where(Instance.account_id == owner_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = (await session.execute(statement)).scalar_one_or_none()
    if found is None:
        raise NotFound
    return found


async def change(session: AsyncSession, instance: Instance, **values: object) -> None:
    """Writes where state and version are still those read. Raises Stale."""
    statement = (
        update(Instance)
        .where(
            Instance.id == instance.id,
            Instance.state == instance.state,
            Instance.version == instance.version,
        )
        .values(**values)
        .returning(Instance.id)
        .execution_options(synchronize_session=False)
    )
    if (await session.execute(statement)).first() is None:
        raise Stale(str(instance.id))
    for name, value in values.items():
        set_committed_value(instance, name, value)


def owned(owner_id: UUID, state: State | None) -> Select[Instance]:
    statement = select(Instance).where(Instance.account_id == owner_id)
    if state is not None:
        statement = statement.where(Instance.state == state.value)
    return statement.order_by(Instance.created_at.desc(), Instance.id.desc())


def history_of(instance_id: UUID) -> Select[HistoryEntry]:
    return (
        select(HistoryEntry)
        .where(HistoryEntry.instance_id == instance_id)
        .order_by(HistoryEntry.at.desc(), HistoryEntry.id.desc())
    )


async def on_node(session: AsyncSession, node_id: UUID) -> list[Instance]:
    """All that its agent knows or must know."""
    statement = select(Instance).where(Instance.node_id == node_id, Instance.state.in_(LIVE))
    return list((await session.execute(statement)).scalars())


async def looked_at(session: AsyncSession, node_id: UUID) -> list[Instance]:
    """As `on_node`, without what no report speaks of: a report is judged by these columns."""
    statement = (
        select(Instance)
        .where(Instance.node_id == node_id, Instance.state.in_(LIVE))
        .options(load_only(*_JUDGED, raiseload=True))
    )
    return list((await session.execute(statement)).scalars())


async def lock_on_node(session: AsyncSession, node_id: UUID) -> list[Instance]:
    """All that stand there, with their locks."""
    statement = (
        select(Instance)
        .where(Instance.node_id == node_id, Instance.state.in_(LIVE))
        .order_by(Instance.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list((await session.execute(statement)).scalars())


async def count_on_node(session: AsyncSession, node_id: UUID) -> int:
    statement = (
        select(func.count())
        .select_from(Instance)
        .where(Instance.node_id == node_id, Instance.state.in_(LIVE))
    )
    return (await session.execute(statement)).scalar_one()


async def note_seen_running(
    session: AsyncSession, node_id: UUID, start_tokens: Collection[UUID], at: datetime
) -> None:
    if start_tokens:
        statement = (
            update(Instance)
            .where(Instance.node_id == node_id, Instance.start_token.in_(start_tokens))
            .values(seen_running_at=at)
            .execution_options(synchronize_session=False)
        )
        await session.execute(statement)


async def of_account(
    session: AsyncSession, account_id: UUID, states: Collection[State]
) -> list[Instance]:
    statement = select(Instance).where(
        Instance.account_id == account_id, Instance.state.in_([s.value for s in states])
    )
    return list((await session.execute(statement.order_by(Instance.id))).scalars())


async def waiting_on(session: AsyncSession, node_id: UUID) -> list[UUID]:
    """Queued instances, first come first."""
    statement = (
        select(Instance.id)
        .where(Instance.node_id == node_id, Instance.state == State.queued.value)
        .order_by(Instance.start_ordered_at, Instance.id)
    )
    return list((await session.execute(statement)).scalars())


async def count_waiting(session: AsyncSession, node_id: UUID) -> int:
    statement = (
        select(func.count())
        .select_from(Instance)
        .where(Instance.node_id == node_id, Instance.state == State.queued.value)
    )
    return (await session.execute(statement)).scalar_one()


async def nodes_with_waiting(session: AsyncSession) -> list[UUID]:
    statement = select(Instance.node_id).where(Instance.state == State.queued.value).distinct()
    return list((await session.execute(statement)).scalars())


async def without_progress(session: AsyncSession, since: datetime) -> list[UUID]:
    states = [State.creating.value, State.starting.value]
    statement = select(Instance.id).where(Instance.state.in_(states), Instance.progress_at < since)
    return list((await session.execute(statement)).scalars())


async def at_rest_since(session: AsyncSession, before: datetime) -> list[UUID]:
    states = [State.stopped.value, State.failed.value]
    statement = select(Instance.id).where(Instance.state.in_(states), Instance.stopped_at < before)
    return list((await session.execute(statement)).scalars())


async def nodes_of_account(session: AsyncSession, account_id: UUID) -> list[UUID]:
    statement = select(Instance.node_id).where(
        Instance.account_id == account_id, Instance.state.in_(LIVE)
    )
    return list((await session.execute(statement.distinct())).scalars())


async def keys_of(session: AsyncSession, accounts: Collection[UUID]) -> dict[UUID, list[str]]:
    """authorized_keys lines by account."""
    statement = (
        select(SshKey.account_id, SshKey.public_key)
        .where(SshKey.account_id.in_(accounts), ~SshKey.removed)
        .order_by(SshKey.key_id)
    )
    found: dict[UUID, list[str]] = {}
    for account_id, line in (await session.execute(statement)).all():
        found.setdefault(account_id, []).append(line)
    return found


async def put_key(session: AsyncSession, key: SshKey) -> None:
    """A removed key never comes back under its id."""
    values = {c.name: getattr(key, c.name) for c in SshKey.__table__.columns}
    row = insert(SshKey).values(**values)
    if key.removed:
        row = row.on_conflict_do_update(
            index_elements=[SshKey.key_id], set_={"removed": True, "public_key": ""}
        )
    else:
        row = row.on_conflict_do_nothing()
    await session.execute(row)
