"""Every SQL statement of auth."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Select, and_, delete, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.domain.account import AccountState
from services.auth.domain.session import EndReason
from services.auth.errors import EmailTaken, UsernameTaken
from services.auth.models import Account, AuditEntry, LoginSession, RefreshToken, SshKey
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
