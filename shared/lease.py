"""A lease: one copy of a service holds it, by the database's own clock.

A holder can stand still past the end of its lease and go on as if nothing had been (a stopped
process, a stuck host). So the end alone protects nothing: every new holding has a higher token,
and work under the lease confirms, in the transaction in which it writes, that its token is still
the newest (`confirm`, or the whole of `fenced`). Whoever would take over waits until that
transaction is through, and a copy that stands still inside one is thrown out by the database.
"""

import asyncio
import os
import socket
import time
from uuid import uuid4

import structlog
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import Database

log = structlog.get_logger(__name__)

LIVES_S = 6.0
RENEWALS = 3
STANDSTILL_S = 3.0
RELEASE_LASTS_S = 1.0

_ACQUIRE = text(
    """
    INSERT INTO leases AS held (name, holder, token, expires_at)
    VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :lives))
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, token = held.token + 1, expires_at = excluded.expires_at
    WHERE held.expires_at <= clock_timestamp()
    RETURNING token
    """
)
# A renewal that a crash of the database forgets only ends the lease earlier, so it need not wait
# for the disk. A token must never be given twice, so acquiring waits.
_RENEW = text(
    """
    UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :lives)
    WHERE name = :name AND token = :token
    RETURNING set_config('synchronous_commit', 'off', true)
    """
)
_RELEASE = text(
    "UPDATE leases SET expires_at = clock_timestamp() WHERE name = :name AND token = :token"
)
_CONFIRM = text(
    """
    SELECT set_config('idle_in_transaction_session_timeout', :standstill, true)
    FROM leases WHERE name = :name AND token = :token FOR SHARE
    """
)


class LeaseLost(RuntimeError):
    """Another copy has taken over: roll back and stop."""


def define_leases(metadata: MetaData) -> Table:
    """The table, in the metadata of the service that owns it. token: rises with every holding."""
    return Table(
        "leases",
        metadata,
        Column("name", Text(), primary_key=True),
        Column("holder", Text(), nullable=False),
        Column("token", BigInteger(), nullable=False),
        Column("expires_at", DateTime(timezone=True), nullable=False),
    )


class Lease:
    """lost: set when a confirmation or a renewal found that another copy holds it now."""

    def __init__(self, database: Database, name: str, *, lives_s: float = LIVES_S) -> None:
        self.name = name
        self.lives_s = lives_s
        self.lost = asyncio.Event()
        # For people who look into the table; the token is what counts.
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
        self._database = database
        self._token: int | None = None

    @property
    def token(self) -> int | None:
        """None where it is not held, as far as this copy knows."""
        return self._token

    async def acquire(self) -> bool:
        """False while another copy holds it, or this one already does."""
        values = {"name": self.name, "holder": self.holder, "lives": self.lives_s}
        async with self._database.transaction() as session:
            row = (await session.execute(_ACQUIRE, values)).first()
        if row is None:
            return False
        self._token = row.token
        self.lost.clear()
        return True

    async def renew(self) -> bool:
        """False once another copy holds it. One that ran out and that nobody took is still ours."""
        values = {"name": self.name, "token": self._token, "lives": self.lives_s}
        async with self._database.transaction() as session:
            kept = (await session.execute(_RENEW, values)).first() is not None
        if not kept:
            self._lose()
        return kept

    async def release(self) -> None:
        """The next copy need not wait. With the database away it runs out by itself."""
        token, self._token = self._token, None
        if token is None:
            return
        try:
            async with asyncio.timeout(RELEASE_LASTS_S), self._database.transaction() as session:
                await session.execute(_RELEASE, {"name": self.name, "token": token})
        except (SQLAlchemyError, OSError) as error:
            log.info("lease_not_released", lease=self.name, error=repr(error))

    async def confirm(self, session: AsyncSession) -> None:
        """Until this transaction ends nobody takes over. Raises LeaseLost."""
        values = {
            "name": self.name,
            "token": self._token,
            "standstill": f"{int(STANDSTILL_S * 1000)}ms",
        }
        if (await session.execute(_CONFIRM, values)).first() is None:
            self._lose()
            raise LeaseLost(self.name)

    def fenced(self) -> Database:
        """The database for work under this lease: each transaction of it is confirmed first."""
        return self._database.opening_with(self.confirm)

    async def keep(self) -> None:
        """Renews until the lease is lost, or so long unconfirmed that it may be; then returns."""
        good_until = time.monotonic() + self.lives_s
        while not await self._is_lost_within(self.lives_s / RENEWALS):
            asked_at = time.monotonic()
            try:
                async with asyncio.timeout(max(good_until - asked_at, self.lives_s / RENEWALS)):
                    if not await self.renew():
                        return
                good_until = asked_at + self.lives_s
            except (SQLAlchemyError, OSError) as error:
                log.warning("lease_not_renewed", lease=self.name, error=repr(error))
                if time.monotonic() >= good_until:
                    return

    async def _is_lost_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self.lost.wait()
        except TimeoutError:
            return False

    def _lose(self) -> None:
        self._token = None
        self.lost.set()
