"""Every SQL statement of auth."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, and_, case, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.domain.account import AccountState
from services.auth.domain.session import EndReason
from services.auth.domain.subscriber import SubscriberState
from services.auth.errors import EmailTaken, SubscriberTaken, UsernameTaken
from services.auth.models import (
    Account,
    AuditEntry,
    LoginSession,
    OutsideSubscriber,
    RefreshToken,
    SshKey,
)
from shared.errors import NotFound
from shared.pagination import PageRequest, fetch_page
from shared.tokens import Role

# Any constant: it only has to be the same for all copies of auth.
_FIRST_OPERATOR_LOCK = 0xF1857


async def add_account(session: AsyncSession, account: Account) -> None:
    """Raises UsernameTaken, EmailTaken; a race between two registrations included."""
    values = {c.name: getattr(account, c.name) for c in Account.__table__.columns}
    row = insert(Account).values(**values).on_conflict_do_nothing().returning(Account.id)
    if (await session.execute(row)).first() is None:
        name_taken = select(Account.id).where(Account.username == account.username)
        if (await session.execute(name_taken)).first() is not None:
            raise UsernameTaken(field="username")
        raise EmailTaken(field="email")


async def lock_first_operator(session: AsyncSession) -> None:
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _FIRST_OPERATOR_LOCK})


async def has_operator(session: AsyncSession) -> bool:
    statement = select(Account.id).where(Account.role == Role.operator.value).limit(1)
    return (await session.execute(statement)).first() is not None


async def get_account(session: AsyncSession, account_id: UUID, *, lock: bool = False) -> Account:
    """lock: nobody else changes it until this transaction ends. Raises NotFound."""
    account = await session.get(
        Account, account_id, with_for_update=lock or None, populate_existing=lock
    )
    if account is None:
        raise NotFound
    return account


async def find_account(session: AsyncSession, username: str) -> Account | None:
    return (
        await session.execute(select(Account).where(Account.username == username))
    ).scalar_one_or_none()


async def email_is_taken(session: AsyncSession, email: str, *, except_id: UUID) -> bool:
    """Waits for whoever is just taking the same address."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": f"email:{email}"}
    )
    statement = select(Account.id).where(Account.email == email, Account.id != except_id)
    return (await session.execute(statement)).first() is not None


async def list_accounts(
    session: AsyncSession, paging: PageRequest, *, status: AccountState | None, q: str | None
) -> tuple[list[Account], int]:
    statement = select(Account).order_by(Account.created_at.desc(), Account.id)
    if status is not None:
        statement = statement.where(Account.status == status.value)
    if q:
        columns = (Account.username, Account.email, Account.phone, Account.organisation)
        statement = statement.where(or_(*(c.icontains(q, autoescape=True) for c in columns)))
    return await fetch_page(session, statement, paging)


def _live(now: datetime) -> Select[LoginSession]:
    return select(LoginSession).where(
        LoginSession.ended_at.is_(None), LoginSession.expires_at > now
    )


async def list_live_sessions(
    session: AsyncSession, account_id: UUID, now: datetime, paging: PageRequest
) -> tuple[list[LoginSession], int]:
    statement = _live(now).where(LoginSession.account_id == account_id)
    return await fetch_page(session, statement.order_by(LoginSession.id.desc()), paging)


async def find_live_session(
    session: AsyncSession, session_id: UUID, account_id: UUID, now: datetime, *, lock: bool = False
) -> LoginSession | None:
    statement = _live(now).where(
        LoginSession.id == session_id, LoginSession.account_id == account_id
    )
    if lock:
        statement = statement.with_for_update()
    return (await session.execute(statement)).scalar_one_or_none()


async def end_sessions(
    session: AsyncSession,
    account_id: UUID,
    reason: EndReason,
    now: datetime,
    *,
    except_id: UUID | None = None,
) -> list[UUID]:
    """Which they were."""
    statement = (
        update(LoginSession)
        .where(LoginSession.account_id == account_id, LoginSession.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason.value)
    )
    if except_id is not None:
        statement = statement.where(LoginSession.id != except_id)
    return list((await session.execute(statement.returning(LoginSession.id))).scalars())


async def sessions_ended_since(session: AsyncSession, since: float) -> dict[UUID, float]:
    """When each ended; both in seconds since 1970."""
    moment = datetime.fromtimestamp(since, UTC)
    statement = select(LoginSession.id, LoginSession.ended_at).where(
        LoginSession.ended_at >= moment
    )
    found = (await session.execute(statement)).all()
    return {row.id: row.ended_at.timestamp() for row in found}


async def session_ends_at(session: AsyncSession, session_id: UUID) -> datetime | None:
    """When it is over by itself; None for one that ended or never was."""
    statement = select(LoginSession.expires_at).where(
        LoginSession.id == session_id, LoginSession.ended_at.is_(None)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def lock_refresh_token(
    session: AsyncSession, fingerprint: bytes
) -> tuple[RefreshToken, LoginSession] | None:
    """The token and its login; two who present the same token go one after the other."""
    token = await session.get(RefreshToken, fingerprint, with_for_update=True)
    if token is None:
        return None
    login = await session.get(LoginSession, token.session_id, with_for_update=True)
    return None if login is None else (token, login)


async def list_ssh_keys(
    session: AsyncSession, account_id: UUID, paging: PageRequest
) -> tuple[list[SshKey], int]:
    statement = select(SshKey).where(SshKey.account_id == account_id).order_by(SshKey.id)
    return await fetch_page(session, statement, paging)


async def all_ssh_keys(session: AsyncSession, account_id: UUID) -> list[SshKey]:
    statement = select(SshKey).where(SshKey.account_id == account_id).order_by(SshKey.id)
    return list((await session.execute(statement)).scalars())


async def delete_ssh_key(session: AsyncSession, key_id: UUID, account_id: UUID) -> None:
    """Raises NotFound."""
    statement = delete(SshKey).where(SshKey.id == key_id, SshKey.account_id == account_id)
    if (await session.execute(statement.returning(SshKey.id))).first() is None:
        raise NotFound


async def list_audit(
    session: AsyncSession,
    paging: PageRequest,
    *,
    actor_id: UUID | None,
    type_: str | None,
    subject: str | None,
) -> tuple[list[AuditEntry], int]:
    statement = select(AuditEntry).order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
    if actor_id is not None:
        statement = statement.where(AuditEntry.actor_id == actor_id)
    if type_:
        statement = statement.where(AuditEntry.type.startswith(type_, autoescape=True))
    if subject:
        statement = statement.where(AuditEntry.subject == subject)
    return await fetch_page(session, statement, paging)


async def forget_sessions(session: AsyncSession, before: datetime) -> None:
    """Drop logins that were over long ago, their tokens with them."""
    over = or_(
        LoginSession.expires_at < before,
        and_(LoginSession.ended_at.is_not(None), LoginSession.ended_at < before),
    )
    await session.execute(delete(LoginSession).where(over))


async def add_subscriber(session: AsyncSession, subscriber: OutsideSubscriber) -> None:
    """Raises SubscriberTaken; a race between two of one name included."""
    values = {c.name: getattr(subscriber, c.name) for c in OutsideSubscriber.__table__.columns}
    row = insert(OutsideSubscriber).values(values).on_conflict_do_nothing()
    if (await session.execute(row.returning(OutsideSubscriber.id))).first() is None:
        raise SubscriberTaken(field="name", name=subscriber.name)


async def get_subscriber(session: AsyncSession, subscriber_id: UUID) -> OutsideSubscriber:
    """Raises NotFound, also for one that is gone."""
    subscriber = await session.get(OutsideSubscriber, subscriber_id)
    if subscriber is None or subscriber.status is SubscriberState.gone:
        raise NotFound
    return subscriber


async def list_subscribers(
    session: AsyncSession, paging: PageRequest
) -> tuple[list[OutsideSubscriber], int]:
    statement = select(OutsideSubscriber).where(
        OutsideSubscriber.state != SubscriberState.gone.value
    )
    return await fetch_page(session, statement.order_by(OutsideSubscriber.name), paging)


async def move_subscriber(
    session: AsyncSession, subscriber_id: UUID, before: SubscriberState, after: SubscriberState
) -> bool:
    """False: it is not in that state any more. The broker is to hear of it at once."""
    statement = (
        update(OutsideSubscriber)
        .where(OutsideSubscriber.id == subscriber_id, OutsideSubscriber.state == before.value)
        .values(state=after.value, confirmed_at=None)
        .returning(OutsideSubscriber.id)
    )
    return (await session.execute(statement)).first() is not None


async def claim_subscribers(
    session: AsyncSession, *, claim: timedelta, confirm_every: timedelta, most: int
) -> list[OutsideSubscriber]:
    """Those that the broker has not confirmed, or not lately; they are the caller's alone for
    the time of the claim."""
    now = func.clock_timestamp()
    due = (
        select(OutsideSubscriber.id)
        .where(
            OutsideSubscriber.state != SubscriberState.gone.value,
            or_(
                OutsideSubscriber.confirmed_at.is_(None),
                OutsideSubscriber.confirmed_at < now - confirm_every,
            ),
            or_(OutsideSubscriber.claimed_until.is_(None), OutsideSubscriber.claimed_until < now),
        )
        .order_by(OutsideSubscriber.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(OutsideSubscriber)
        .where(OutsideSubscriber.id.in_(due))
        .values(claimed_until=now + claim)
        .returning(OutsideSubscriber)
    )
    return list((await session.execute(statement)).scalars())


async def confirm_subscriber(
    session: AsyncSession, subscriber_id: UUID, before: SubscriberState, after: SubscriberState
) -> None:
    """The broker took it as `before` said; one whose state is another by now is due again."""
    await session.execute(
        update(OutsideSubscriber)
        .where(OutsideSubscriber.id == subscriber_id)
        .values(
            claimed_until=None,
            state=case(
                (OutsideSubscriber.state == before.value, after.value),
                else_=OutsideSubscriber.state,
            ),
            confirmed_at=case(
                (OutsideSubscriber.state == before.value, func.clock_timestamp()), else_=None
            ),
            trouble="",
        )
    )


async def note_subscriber_trouble(
    session: AsyncSession, subscriber_id: UUID, trouble: str, *, again_in: timedelta
) -> None:
    """It stays due; others have their turn before it is tried again."""
    await session.execute(
        update(OutsideSubscriber)
        .where(OutsideSubscriber.id == subscriber_id)
        .values(trouble=trouble, claimed_until=func.clock_timestamp() + again_in)
    )
