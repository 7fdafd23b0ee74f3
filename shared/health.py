"""Whether a service is well: asked by operators through the gateway, taken regularly as gauges."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from alembic.script import ScriptDirectory
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import QueuePool

from shared.bus.protocol import Bus
from shared.database import Database
from shared.inbox import count_dead_letters
from shared.metrics import (
    BUS_ALIVE,
    DEAD_LETTERS,
    OUTBOX_OLDEST,
    OUTBOX_WAITING,
    POOL_CONNECTIONS,
    REDIS_ALIVE,
)
from shared.outbox import waiting
from shared.worker import Worker

log = structlog.get_logger(__name__)

PULSE_S = 10.0
PATIENCE_S = 3.0

Figures = Callable[[AsyncSession], Awaitable[Mapping[str, float]]]


class WorkerHealth(BaseModel):
    """failures: in a row. done_ago_s: since its last pass that ended well, or since it began."""

    name: str
    interval_s: float
    done_ago_s: float
    failures: int


class DatabaseHealth(BaseModel):
    """migration: the database's revision; head: this program's.
    figures: what the service itself says of its world, as `nodes_lost`."""

    migration: str
    head: str
    outbox_waiting: int
    outbox_oldest_s: float
    dead_letters: int
    figures: dict[str, float]


class ServiceHealth(BaseModel):
    """database: None when it does not answer."""

    service: str
    database: DatabaseHealth | None
    bus_alive: bool
    redis_alive: bool
    workers: list[WorkerHealth]


async def _no_figures(_: AsyncSession) -> Mapping[str, float]:
    return {}


@dataclass(slots=True)
class Pulse:
    """figures: the service's own numbers; it sets its gauges at the same time."""

    service: str
    database: Database
    bus: Bus
    redis: Redis
    head: str
    workers: Sequence[Worker] = ()
    figures: Figures = field(default=_no_figures)

    async def take(self) -> ServiceHealth:
        """Never raises for a part that is away: that is what it tells."""
        database, bus_alive, redis_alive = await asyncio.gather(
            self._database(), self._bus_alive(), self._redis_alive()
        )
        BUS_ALIVE.labels(self.service).set(bus_alive)
        REDIS_ALIVE.labels(self.service).set(redis_alive)
        self._note_pool()
        now = time.monotonic()
        return ServiceHealth(
            service=self.service,
            database=database,
            bus_alive=bus_alive,
            redis_alive=redis_alive,
            workers=[
                WorkerHealth(
                    name=worker.name,
                    interval_s=worker.interval_s,
                    done_ago_s=now - worker.passes.last_done,
                    failures=worker.passes.failures,
                )
                for worker in self.workers
                if worker.interval_s is not None
            ],
        )

    def worker(self) -> Worker:
        """Keeps the gauges fresh, whoever scrapes them."""

        async def step() -> None:
            await self.take()

        return Worker(f"{self.service}.pulse", PULSE_S, step)

    async def _database(self) -> DatabaseHealth | None:
        try:
            async with asyncio.timeout(PATIENCE_S), self.database.transaction() as session:
                revision = await session.execute(text("SELECT version_num FROM alembic_version"))
                count, oldest_s = await waiting(session)
                health = DatabaseHealth(
                    migration=revision.scalar_one_or_none() or "",
                    head=self.head,
                    outbox_waiting=count,
                    outbox_oldest_s=oldest_s,
                    dead_letters=await count_dead_letters(session),
                    figures=dict(await self.figures(session)),
                )
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("database_not_well", service=self.service, error=repr(error))
            return None
        OUTBOX_WAITING.labels(self.service).set(count)
        OUTBOX_OLDEST.labels(self.service).set(oldest_s)
        DEAD_LETTERS.labels(self.service).set(health.dead_letters)
        return health

    async def _bus_alive(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.bus.alive(PATIENCE_S)
        except TimeoutError:
            return False

    async def _redis_alive(self) -> bool:
        return await redis_answers(self.redis)

    def _note_pool(self) -> None:
        pool = self.database.engine.pool
        if isinstance(pool, QueuePool):
            kinds = {
                "open": pool.checkedin() + pool.checkedout(),
                "in_use": pool.checkedout(),
                "most": self.database.most_connections,
            }
            for kind, count in kinds.items():
                POOL_CONNECTIONS.labels(self.service, kind).set(count)


async def redis_answers(redis: Redis) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await redis.ping()
    except (RedisError, OSError, TimeoutError):
        return False
    return True


def newest_migration(migrations: Path) -> str:
    """The revision that this program brings its database to."""
    return ScriptDirectory(str(migrations)).get_current_head() or ""
