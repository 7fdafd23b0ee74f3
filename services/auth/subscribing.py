"""Outside programs that hear facts. The row says what should be; `Admissions` makes the broker so,
with no transaction open, and again every hour, lest a broker that lost its memory shuts them out.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import repository
from services.auth.domain.subscriber import SubscriberState, login_of, password_of
from services.auth.errors import NeedsSplitShape, NoSuchFact
from services.auth.models import OutsideSubscriber
from shared.bus import Keeping
from shared.bus.admission import Admission, AdmittedQueue, BrokerAway, BrokerRefused
from shared.clock import utc_now
from shared.database import Database
from shared.events.auth import OutsideSubscriberAdded, OutsideSubscriberDismissed
from shared.events.catalogue import facts
from shared.ids import new_id
from shared.outbox import emit

log = structlog.get_logger(__name__)

CONFIRM_EVERY = timedelta(hours=1)
CLAIM = timedelta(seconds=60)
# Well within the claim: two copies of auth never talk to the broker about one program at once.
BROKER_PATIENCE_S = 20.0
RETRY_AFTER = timedelta(seconds=15)
# At the same time, so that each is told within its claim.
AT_ONCE = 8


def check_patterns(patterns: Sequence[str], *, field: str) -> None:
    """Raises NoSuchFact for one that no fact fits: a mistake, or an order or a report."""
    for pattern in patterns:
        if not facts([pattern]):
            raise NoSuchFact(field=field, pattern=pattern)


async def add_subscriber(
    session: AsyncSession, name: str, patterns: Sequence[str], *, actor: UUID, has_broker: bool
) -> OutsideSubscriber:
    """Raises NoSuchFact, NeedsSplitShape, SubscriberTaken."""
    check_patterns(patterns, field="patterns")
    if not has_broker:
        raise NeedsSplitShape
    subscriber = OutsideSubscriber(
        id=new_id(), name=name, patterns=list(dict.fromkeys(patterns)), created_at=utc_now()
    )
    await repository.add_subscriber(session, subscriber)
    fact = OutsideSubscriberAdded(
        subscriber_id=subscriber.id, name=name, patterns=subscriber.patterns
    )
    await emit(session, fact, subject=subscriber.id, sequence=1, actor=actor)
    return subscriber


async def dismiss_subscriber(session: AsyncSession, subscriber_id: UUID, *, actor: UUID) -> None:
    """Again is harmless. Raises NotFound."""
    subscriber = await repository.get_subscriber(session, subscriber_id)
    for before in (SubscriberState.wanted, SubscriberState.standing):
        if await repository.move_subscriber(
            session, subscriber_id, before, SubscriberState.dismissed
        ):
            fact = OutsideSubscriberDismissed(subscriber_id=subscriber_id, name=subscriber.name)
            await emit(session, fact, subject=subscriber_id, sequence=2, actor=actor)


class Admissions:
    """key: with which passwords are made."""

    def __init__(self, database: Database, admission: Admission, key: bytes) -> None:
        self._database = database
        self._admission = admission
        self._key = key

    async def settle_due(self) -> None:
        """One pass over all that the broker has not confirmed, or not lately."""
        async with self._database.transaction() as session:
            due = await repository.claim_subscribers(
                session, claim=CLAIM, confirm_every=CONFIRM_EVERY, most=AT_ONCE
            )
        await asyncio.gather(*(self._settle(subscriber) for subscriber in due))

    async def _settle(self, subscriber: OutsideSubscriber) -> None:
        try:
            async with asyncio.timeout(BROKER_PATIENCE_S):
                await self._tell_broker(subscriber)
        except (BrokerAway, BrokerRefused, TimeoutError) as error:
            log.warning("subscriber_unsettled", name=subscriber.name, error=repr(error))
            await self._note(subscriber, error)
        else:
            await self._confirm(subscriber)

    async def _tell_broker(self, subscriber: OutsideSubscriber) -> None:
        login = login_of(subscriber.name)
        if subscriber.status is SubscriberState.dismissed:
            await self._admission.dismiss(login, [login])
            return
        queue = AdmittedQueue(
            queue=login,
            patterns=tuple(subscriber.patterns),
            subject=None,
            keeping=Keeping.lately,
        )
        password = password_of(subscriber.id, self._key)
        await self._admission.admit(login, password, [queue], may_report=False)

    async def _confirm(self, subscriber: OutsideSubscriber) -> None:
        after = (
            SubscriberState.gone
            if subscriber.status is SubscriberState.dismissed
            else SubscriberState.standing
        )
        async with self._database.transaction() as session:
            # One that was dismissed meanwhile stays so, and is due again.
            await repository.confirm_subscriber(session, subscriber.id, subscriber.status, after)
        log.info("subscriber_settled", name=subscriber.name, state=after.value)

    async def _note(self, subscriber: OutsideSubscriber, error: Exception) -> None:
        async with self._database.transaction() as session:
            await repository.note_subscriber_trouble(
                session, subscriber.id, repr(error)[:500], again_in=RETRY_AFTER
            )
