"""What operators ask of every service's events, under addresses that name the service:
`/api/v1/dead-letters/{service}…` and `/api/v1/events/{stats,retell}/{service}`."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from shared.dead_letters import DeadLetter, DeadLetters
from shared.event_stats import EventStats, take_stats
from shared.events.envelope import Envelope
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy
from shared.retelling import Retelling

_QUEUE = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$"
# AMQP's: `*` is one word, `#` any number.
_PATTERN = r"^(#|\*|[a-z0-9_]+)(\.(#|\*|[a-z0-9_]+)){0,9}$"

ConsumerName = Annotated[str, Path(max_length=100, pattern=_QUEUE)]
ConsumerFilter = Annotated[str | None, Query(max_length=100, pattern=_QUEUE)]
TypeFilter = Annotated[str | None, Query(max_length=100, pattern=r"^[a-z][a-z0-9_.]*$")]


class DeadLetterView(BaseModel):
    """attempts: how often its effect was tried, replays included; error: of the last one."""

    service: str
    consumer: str
    event_id: UUID
    type: str
    subject: str
    told_at: datetime
    parked_at: datetime
    attempts: int
    error: str

    @classmethod
    def of(cls, service: str, letter: DeadLetter) -> Self:
        return cls(**_summary(service, letter))


class EnvelopeView(BaseModel):
    """CloudEvents 1.0, as it travelled."""

    specversion: str
    id: UUID
    source: str
    type: str
    subject: str
    time: datetime
    dataversion: int
    sequence: int
    actor: UUID | None
    data: dict[str, JsonValue]

    @classmethod
    def of(cls, event: Envelope) -> Self:
        return cls.model_validate(event, from_attributes=True)


class DeadLetterDetail(DeadLetterView):
    envelope: EnvelopeView

    @classmethod
    def of(cls, service: str, letter: DeadLetter) -> Self:
        return cls(**_summary(service, letter), envelope=EnvelopeView.of(letter.event))


class ReplayedView(BaseModel):
    """replayed, failed: event ids; left: dead letters of this consumer that stay."""

    replayed: list[UUID]
    failed: list[UUID]
    left: int


class RetellWish(BaseModel):
    """Facts that became true from `since` on, and before `until` where that is given. type: a
    pattern, as `market.#`."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime
    until: AwareDatetime | None = None
    type: str = Field(default="#", max_length=100, pattern=_PATTERN)


class RetoldView(BaseModel):
    """retold: how many facts leave again now."""

    service: str
    retold: int


class ConsumerStatsView(BaseModel):
    """handled: events in its inbox. lag_s: between telling and handling, of the newest."""

    consumer: str
    handled: int
    last_handled_at: datetime | None
    lag_s: float
    dead_letters: int


class EventStatsView(BaseModel):
    """outbox_waiting: true but not yet told; a number that keeps rising is an alarm."""

    service: str
    outbox_waiting: int
    outbox_oldest_age_s: float
    dead_letters: int
    consumers: list[ConsumerStatsView]

    @classmethod
    def of(cls, stats: EventStats) -> Self:
        return cls.model_validate(stats, from_attributes=True)


def _summary(service: str, letter: DeadLetter) -> dict[str, object]:
    event = letter.event
    return {
        "service": service,
        "consumer": letter.consumer,
        "event_id": event.id,
        "type": event.type,
        "subject": event.subject,
        "told_at": event.time,
        "parked_at": letter.parked_at,
        "attempts": letter.attempts,
        "error": letter.error,
    }


def _of_the_app(request: Request) -> DeadLetters:
    letters: DeadLetters = request.app.state.dead_letters
    return letters


Letters = Annotated[DeadLetters, Depends(_of_the_app)]


def _retelling(request: Request) -> Retelling:
    retelling: Retelling = request.app.state.retelling
    return retelling


Retells = Annotated[Retelling, Depends(_retelling)]


def event_routes(service: str) -> APIRouter:
    """Transactions are the letters' own: a failed replay is noted although it answers with a
    refusal."""
    router = APIRouter(tags=["events"])
    root = f"/api/v1/dead-letters/{service}"
    _add_reading(router, service, root)
    _add_deciding(router, service, root)

    @router.get(
        f"/api/v1/events/stats/{service}",
        name=f"show_{service}_event_stats",
        summary="How its events fare",
        **policy(Policy.OPERATOR),
    )
    async def show_stats(letters: Letters) -> EventStatsView:
        async with letters.database.transaction() as session:
            return EventStatsView.of(await take_stats(session, service, list(letters.consumers)))

    @router.post(
        f"/api/v1/events/retell/{service}",
        name=f"retell_{service}_events",
        summary="Tell facts again",
        **policy(Policy.OPERATOR),
    )
    async def retell(body: RetellWish, retells: Retells, caller: Caller) -> RetoldView:
        """For a consumer that lost them, as with a queue that was deleted at the broker. Under
        their old ids, so that whoever had them does nothing, and in their old order; repeating it
        is harmless. What waits for its first telling is not counted."""
        count = await retells.retell(body.since, body.until, body.type, actor=caller.id)
        return RetoldView(service=service, retold=count)

    return router


def _add_reading(router: APIRouter, service: str, root: str) -> None:
    @router.get(
        root,
        name=f"list_{service}_dead_letters",
        summary="Events that it could not handle",
        **policy(Policy.OPERATOR),
    )
    async def list_letters(
        letters: Letters, paging: Paging, consumer: ConsumerFilter = None, type: TypeFilter = None
    ) -> Page[DeadLetterView]:
        """type: a beginning, such as `market.wallet`. In the order in which they were told."""
        items, total = await letters.list(paging, consumer=consumer, type_=type)
        views = [DeadLetterView.of(service, item) for item in items]
        return Page(items=views, total=total, page=paging.page, size=paging.size)

    @router.get(
        f"{root}/{{consumer}}/{{event_id}}",
        name=f"show_{service}_dead_letter",
        summary="One, with its envelope",
        **policy(Policy.OPERATOR),
    )
    async def show_letter(
        consumer: ConsumerName, event_id: UUID, letters: Letters
    ) -> DeadLetterDetail:
        return DeadLetterDetail.of(service, await letters.show(consumer, event_id))


def _add_deciding(router: APIRouter, service: str, root: str) -> None:
    @router.post(
        f"{root}/{{consumer}}/replay",
        name=f"replay_{service}_dead_letters",
        summary="Replay all of a consumer",
        **policy(Policy.OPERATOR),
    )
    async def replay_all(consumer: ConsumerName, letters: Letters, caller: Caller) -> ReplayedView:
        """The oldest hundred, in order; after one that fails, no later one of its subject."""
        done = await letters.replay_all(consumer, actor=caller.id)
        return ReplayedView.model_validate(done, from_attributes=True)

    @router.post(
        f"{root}/{{consumer}}/{{event_id}}/replay",
        name=f"replay_{service}_dead_letter",
        status_code=204,
        summary="Replay one",
        **policy(Policy.OPERATOR),
    )
    async def replay_one(
        consumer: ConsumerName, event_id: UUID, letters: Letters, caller: Caller
    ) -> None:
        """Its effect happens and the letter goes, or neither (409 `replay_failed`)."""
        await letters.replay(consumer, event_id, actor=caller.id)

    @router.delete(
        f"{root}/{{consumer}}/{{event_id}}",
        name=f"drop_{service}_dead_letter",
        status_code=204,
        summary="Drop one",
        **policy(Policy.OPERATOR),
    )
    async def drop_letter(
        consumer: ConsumerName, event_id: UUID, letters: Letters, caller: Caller
    ) -> None:
        """Its effect will never happen here; the audit trail keeps who decided."""
        await letters.drop(consumer, event_id, actor=caller.id)
