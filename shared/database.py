"""One engine and one session rule for every service.

A request is one transaction: `Database.transaction()` commits when the block ends and rolls back
when it raises. Nobody else commits. After a commit that wrote events the relay is woken.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

from sqlalchemy import MetaData, event, func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from shared import crashing
from shared.crashing import crash_point

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# A copy that stands still inside a transaction holds everybody's rows for no longer.
STANDSTILL = "20s"
# Whoever waits longer for a lock is told to come again.
LOCK_TIMEOUT_S = 8
POOL_TIMEOUT_S = 5
STATEMENTS = 500

# Classes and codes of SQLSTATE: no connection, no resources (a full disk too), shutting down,
# system error, deadlock or serialization failure, read-only, a lock not had in time.
_AWAY = ("08", "53", "57P", "58", "40", "25006", "55P03")

AFTER_COMMIT = "after_commit"
OUTBOX_WRITTEN = "outbox_written"


def new_metadata() -> MetaData:
    """Metadata with named constraints, so that migrations and errors can name them."""
    return MetaData(naming_convention=NAMING)


class DatabaseAway(ConnectionError):
    """It does not answer, or cannot do this now; the transaction may be tried again as a whole.
    One that was committing may have committed."""


class Database:
    """A service's own database.

    outbox_written: set after a commit that wrote events; the relay waits for it.
    most_connections: what its pool may open.
    """

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.most_connections = 2 * pool_size
        self.engine = create_async_engine(
            url,
            # Kept once opened: a new one costs as much as dozens of transactions. Those used last
            # go first, since they know their statements.
            pool_size=self.most_connections,
            max_overflow=0,
            pool_use_lifo=True,
            pool_pre_ping=True,
            pool_timeout=POOL_TIMEOUT_S,
            connect_args={
                "timeout": POOL_TIMEOUT_S,
                # Prepared on each connection; the default holds fewer than a service has.
                "prepared_statement_cache_size": STATEMENTS,
                "server_settings": {
                    "timezone": "UTC",
                    "idle_in_transaction_session_timeout": STANDSTILL,
                    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
                },
            },
        )
        self.outbox_written = asyncio.Event()
        self._sessions = async_sessionmaker(
            self.engine, expire_on_commit=False, info={OUTBOX_WRITTEN: self.outbox_written}
        )
        self._opening: Callable[[AsyncSession], Awaitable[None]] | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Raises DatabaseAway, and an OSError where no connection can be made."""
        try:
            async with self._sessions() as session:
                async with session.begin():
                    if self._opening is not None:
                        await self._opening(session)
                    yield session
                    writes = crashing.ACTIVE and await _has_written(session)
                    if writes:
                        crash_point("commit.before", of_use=True)
                if writes:
                    crash_point("commit.after", of_use=True)
        except SQLAlchemyError as error:
            if _is_away(error):
                raise DatabaseAway(str(error)) from error
            raise

    def opening_with(self, opening: Callable[[AsyncSession], Awaitable[None]]) -> Self:
        """The same database, each of whose transactions begins with this and fails with it."""
        view = copy.copy(self)
        view._opening = opening
        return view

    async def close(self) -> None:
        await self.engine.dispose()


async def database_now(session: AsyncSession) -> datetime:
    """One clock for all copies of a service: what one writes and another compares must not depend
    on whose clock it was. The time of the statement: one that waited for a lock is late."""
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


def _is_away(error: SQLAlchemyError) -> bool:
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        return error.connection_invalidated or state.startswith(_AWAY)
    return isinstance(error, PoolTimeout)


async def _has_written(session: AsyncSession) -> bool:
    """Or locked a row."""
    await session.flush()
    given = await session.execute(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL"))
    return bool(given.scalar_one())


def call_after_commit(session: AsyncSession, callback: Callable[[], None]) -> None:
    """Run `callback()` once when this session's transaction has committed."""
    session.info.setdefault(AFTER_COMMIT, {})[callback] = None


@event.listens_for(Session, "after_commit")
def _run_callbacks(session: Session) -> None:
    for callback in session.info.pop(AFTER_COMMIT, {}):
        callback()


@event.listens_for(Session, "after_rollback")
def _drop_callbacks(session: Session) -> None:
    session.info.pop(AFTER_COMMIT, None)
