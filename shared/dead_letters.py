"""Events that a consumer could not handle: operators list, inspect, replay and drop them.

A letter goes only in the transaction of its effect, or of the event that tells that it was
dropped. So nothing is lost between the two, and two who replay the same one have one effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, RowMapping, delete, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from shared.bus.protocol import Subscription
from shared.database import Database
from shared.errors import Conflict, NotFound
from shared.events.dead_letters import dropped, replayed
from shared.events.envelope import Envelope
from shared.inbox import DEAD_LETTERS, Consumer, describe
from shared.outbox import emit
from shared.pagination import PageRequest
from shared.text import Text

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 100


class ReplayFailed(Conflict):
    code = "replay_failed"
    title = Text("重放失败，死信已保留", "The replay failed; the dead letter stays")
    detail = Text(
        "{error}。请排除原因后再次重放，或丢弃此死信。",
        "{error}. Remove the cause and replay it again, or drop it.",
    )


class ConsumerGone(Conflict):
    code = "consumer_gone"
    title = Text("没有这个消费者", "Nobody here consumes it any more")
    detail = Text(
        "{service} 中没有名为 {consumer} 的消费者，无法重放；请安装有它的版本，或丢弃此死信。",
        "{service} has no consumer called {consumer}, so it cannot be replayed. Install a version "
        "that has it, or drop the dead letter.",
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """attempts: how often its effect was tried, replays included. error: of the last one."""

    consumer: str
    event: Envelope
    error: str
    attempts: int
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """replayed, failed: event ids. left: letters of the consumer that stay."""

    replayed: list[UUID]
    failed: list[UUID]
    left: int


class DeadLetters:
    """Of one service; `app.state.dead_letters`."""

    def __init__(
        self, service: str, database: Database, subscriptions: Sequence[Subscription]
    ) -> None:
        self.service = service
        self.database = database
        self.consumers = {
            subscription.queue: subscription.handler
            for subscription in subscriptions
            if isinstance(subscription.handler, Consumer)
        }

    async def list(
        self, paging: PageRequest, *, consumer: str | None, type_: str | None
    ) -> tuple[list[DeadLetter], int]:
        """type_: a beginning, such as `market.wallet`. In the order in which they were told."""
        statement = select(DEAD_LETTERS)
        if consumer:
            statement = statement.where(DEAD_LETTERS.c.consumer == consumer)
        if type_:
            statement = statement.where(DEAD_LETTERS.c.type.startswith(type_, autoescape=True))
        ordered = statement.order_by(DEAD_LETTERS.c.event_id, DEAD_LETTERS.c.consumer)
        async with self.database.transaction() as session:
            count = select(func.count()).select_from(statement.subquery())
            total = (await session.execute(count)).scalar_one()
            page = ordered.offset(paging.offset).limit(paging.size)
            rows = (await session.execute(page)).mappings().all()
        return [_letter(row) for row in rows], total

    async def show(self, consumer: str, event_id: UUID) -> DeadLetter:
        """Raises NotFound."""
        async with self.database.transaction() as session:
            return await _get(session, consumer, event_id)

    async def replay(self, consumer: str, event_id: UUID, *, actor: UUID) -> None:
        """Raises NotFound, ConsumerGone, ReplayFailed."""
        try:
            await self._have_the_effect(consumer, event_id, actor)
        except (NotFound, ConsumerGone, OperationalError, OSError):
            # The database is away: the letter has not been tried.
            raise
        except Exception as error:
            log.warning("replay_failed", consumer=consumer, event_id=str(event_id), exc_info=error)
            await self._note_failure(consumer, event_id, error)
            raise ReplayFailed(error=describe(error)) from error

    async def replay_all(self, consumer: str, *, actor: UUID) -> Replayed:
        """The oldest MOST_AT_ONCE; after one that fails, no later one of its subject is tried.
        Raises NotFound, ConsumerGone."""
        waiting, _ = await self.list(
            PageRequest(page=1, size=MOST_AT_ONCE), consumer=consumer, type_=None
        )
        if not waiting and consumer not in self.consumers:
            raise NotFound
        done: list[UUID] = []
        failed: list[UUID] = []
        stuck: set[str] = set()
        for letter in waiting:
            event = letter.event
            if event.subject in stuck:
                continue
            try:
                await self.replay(consumer, event.id, actor=actor)
                done.append(event.id)
            except NotFound:
                continue  # another operator was quicker
            except ReplayFailed:
                failed.append(event.id)
                stuck.add(event.subject)
        async with self.database.transaction() as session:
            left = select(func.count()).where(DEAD_LETTERS.c.consumer == consumer)
            return Replayed(done, failed, (await session.execute(left)).scalar_one())

    async def drop(self, consumer: str, event_id: UUID, *, actor: UUID) -> None:
        """Raises NotFound."""
        async with self.database.transaction() as session:
            letter = await _get(session, consumer, event_id, lock=True)
            await _delete(session, consumer, event_id)
            fact = dropped(
                self.service,
                consumer=consumer,
                event_id=event_id,
                event_type=letter.event.type,
                error=letter.error,
            )
            await emit(session, fact, subject=event_id, actor=actor)
        log.info("dead_letter_dropped", consumer=consumer, event_id=str(event_id))

    async def _have_the_effect(self, consumer: str, event_id: UUID, actor: UUID) -> None:
        async with self.database.transaction() as session:
            letter = await _get(session, consumer, event_id, lock=True)
            handler = self.consumers.get(consumer)
            if handler is None:
                raise ConsumerGone(service=self.service, consumer=consumer)
            await handler.effect(session, letter.event)
            await _delete(session, consumer, event_id)
            fact = replayed(
                self.service, consumer=consumer, event_id=event_id, event_type=letter.event.type
            )
            await emit(session, fact, subject=event_id, actor=actor)
        log.info("dead_letter_replayed", consumer=consumer, event_id=str(event_id))

    async def _note_failure(self, consumer: str, event_id: UUID, error: Exception) -> None:
        async with self.database.transaction() as session:
            noted = update(DEAD_LETTERS).values(
                attempts=DEAD_LETTERS.c.attempts + 1, error=describe(error)
            )
            await session.execute(noted.where(*_is(consumer, event_id)))


async def _get(
    session: AsyncSession, consumer: str, event_id: UUID, *, lock: bool = False
) -> DeadLetter:
    statement = select(DEAD_LETTERS).where(*_is(consumer, event_id))
    if lock:
        statement = statement.with_for_update()
    row = (await session.execute(statement)).mappings().first()
    if row is None:
        raise NotFound
    return _letter(row)


async def _delete(session: AsyncSession, consumer: str, event_id: UUID) -> None:
    await session.execute(delete(DEAD_LETTERS).where(*_is(consumer, event_id)))


def _is(consumer: str, event_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return DEAD_LETTERS.c.consumer == consumer, DEAD_LETTERS.c.event_id == event_id


def _letter(row: RowMapping) -> DeadLetter:
    return DeadLetter(
        consumer=row["consumer"],
        event=Envelope.model_validate(row["envelope"]),
        error=row["error"],
        attempts=row["attempts"],
        parked_at=row["parked_at"],
    )
