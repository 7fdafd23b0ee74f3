"""/api/v1/events: facts as they happen, and the outside programs that hear them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy.exc import OperationalError

from services.auth import reading
from services.auth.api.schemas import (
    FactPattern,
    NewSubscriber,
    SubscriberLoginView,
    SubscriberView,
)
from services.auth.api.tail_stream import TailStream
from services.auth.deps import LiveCaller, PartsDep
from services.auth.errors import SessionOver
from services.auth.login import require_live
from services.auth.subscribing import add_subscriber, check_patterns, dismiss_subscriber
from shared.app import Session
from shared.database import call_after_commit
from shared.idempotency import IdempotencyKey, once
from shared.pagination import Page, Paging
from shared.policy import Policy, policy

router = APIRouter(prefix="/api/v1/events", tags=["events"])

Patterns = Annotated[list[FactPattern], Query(min_length=1, max_length=20)]


@router.get(
    "/tail",
    summary="Facts as they happen",
    response_class=TailStream,
    **policy(Policy.OPERATOR),
)
async def tail_events(caller: LiveCaller, parts: PartsDep, pattern: Patterns) -> TailStream:
    """A stream of server-sent events: `fact` (data: the CloudEvents envelope), `dropped` (data:
    `{"count": n}`, when the reader was too slow), `over` (the login has ended). pattern: AMQP topic
    patterns of types, `*` one word, `#` any number. Nothing of before the call is told."""
    check_patterns(pattern, field="pattern")

    async def may_stay() -> bool:
        try:
            async with parts.database.transaction() as session:
                await require_live(session, caller)
        except SessionOver:
            return False
        except (OperationalError, OSError):
            pass  # asked again soon
        return True

    return TailStream(parts.tails, pattern, may_stay)


@router.get("/subscribers", summary="Outside programs", **policy(Policy.OPERATOR))
async def list_subscribers(session: Session, paging: Paging) -> Page[SubscriberView]:
    """Those that are not gone, by name."""
    items, total = await reading.list_subscribers(session, paging)
    views = [SubscriberView.of(item) for item in items]
    return Page(items=views, total=total, page=paging.page, size=paging.size)


@router.post(
    "/subscribers", status_code=201, summary="Let a program hear facts", **policy(Policy.OPERATOR)
)
async def create_subscriber(
    body: NewSubscriber,
    caller: LiveCaller,
    session: Session,
    parts: PartsDep,
    idempotency_key: IdempotencyKey = None,
) -> SubscriberLoginView:
    """It gets a queue of its own, which it may read and no more; the password is said this once.
    The login works as soon as `state` is `standing`, in a few seconds."""

    async def effect() -> SubscriberView:
        subscriber = await add_subscriber(
            session,
            body.name,
            body.patterns,
            actor=caller.id,
            has_broker=parts.settings.broker_admin_url is not None,
        )
        return SubscriberView.of(subscriber)

    view = await once(
        session,
        owner_id=caller.id,
        key=idempotency_key,
        operation="create_subscriber",
        request=body,
        effect=effect,
        answer_type=SubscriberView,
    )
    call_after_commit(session, parts.settle_subscribers.set)
    return SubscriberLoginView.with_login(view, parts.key, parts.settings.broker_public_url)


@router.delete(
    "/subscribers/{subscriber_id}",
    status_code=204,
    summary="Take it away",
    **policy(Policy.OPERATOR),
)
async def delete_subscriber(
    subscriber_id: UUID, caller: LiveCaller, session: Session, parts: PartsDep
) -> None:
    """Its connections are closed, and what it has not taken is lost."""
    await dismiss_subscriber(session, subscriber_id, actor=caller.id)
    call_after_commit(session, parts.settle_subscribers.set)
