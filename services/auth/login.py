"""Sessions: opened with a password, kept alive by rotating refresh tokens, ended."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import repository
from services.auth.auditing import record_own
from services.auth.authentication import refuse_disabled
from services.auth.domain.account import may_log_in
from services.auth.domain.session import (
    SESSION_LIVES,
    EndReason,
    PresentedToken,
    Verdict,
    fingerprint_of,
    judge,
    successor_of,
)
from services.auth.errors import SessionOver, WrongCredentials
from services.auth.models import Account, LoginSession, RefreshToken
from services.auth.revoking import Revoking
from services.auth.signing import SigningKey
from shared.clock import utc_now
from shared.database import Database, database_now
from shared.errors import NotFound
from shared.tokens import AccountStatus, Principal, Role

log = structlog.get_logger(__name__)

KEEP_ENDED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Granted:
    access_token: str
    refresh_token: str
    expires_in_s: int
    account: Account


async def open_session(
    session: AsyncSession,
    key: SigningKey,
    proven: Account,
    *,
    session_id: UUID,
    address: str | None,
    user_agent: str,
) -> Granted:
    """proven: as it was when its password was checked. Raises WrongCredentials when the password
    has changed since, AccountDisabledNow."""
    account = await repository.get_account(session, proven.id, lock=True)
    if account.password_hash != proven.password_hash:
        raise WrongCredentials
    refuse_disabled(account)
    now = await database_now(session)
    token = secrets.token_hex(32)
    session.add(
        LoginSession(
            id=session_id,
            account_id=account.id,
            address=address or "",
            user_agent=user_agent,
            created_at=now,
            last_used_at=now,
            expires_at=now + SESSION_LIVES,
        )
    )
    await session.flush()
    session.add(
        RefreshToken(fingerprint=fingerprint_of(token), session_id=session_id, issued_at=now)
    )
    await record_own(session, "auth.session.opened", session_id, actor=account.id)
    return _grant(key, account, session_id, token)


async def refresh_session(
    database: Database, key: SigningKey, revoking: Revoking, token: str
) -> Granted:
    """The session goes on with this token's one successor. Raises SessionOver.

    Its own transaction: a refusal of a stolen token must not roll back what it ended.
    """
    async with database.transaction() as session:
        granted = await _refresh(session, key, revoking, token)
    if granted is None:
        raise SessionOver
    return granted


async def _refresh(
    session: AsyncSession, key: SigningKey, revoking: Revoking, token: str
) -> Granted | None:
    found = await repository.lock_refresh_token(session, fingerprint_of(token))
    if found is None:
        return None
    row, login = found
    now = await database_now(session)
    account = await repository.get_account(session, login.account_id)
    if not may_log_in(account.state):
        return None
    successor = successor_of(token, key.refresh_key)
    match judge(PresentedToken(row.used_at, login.ended_at, login.expires_at), now):
        case Verdict.refuse:
            return None
        case Verdict.reused:
            login.end(EndReason.token_reused, now)
            revoking.ended(session, [login.id], now)
            await record_own(session, "auth.session.token_reused", login.id, actor=account.id)
            log.warning("refresh_token_reused", session_id=str(login.id))
            return None
        case Verdict.rotate:
            row.used_at = now
            login.last_used_at = now
            session.add(
                RefreshToken(
                    fingerprint=fingerprint_of(successor), session_id=login.id, issued_at=now
                )
            )
        case Verdict.repeat:
            pass
    return _grant(key, account, login.id, successor)


def _grant(key: SigningKey, account: Account, session_id: UUID, refresh_token: str) -> Granted:
    access = key.access_token(
        account.id,
        username=account.username,
        role=Role(account.role),
        status=AccountStatus(account.status),
        session_id=session_id,
    )
    return Granted(access, refresh_token, key.token_lives_s, account)


async def end_session(
    session: AsyncSession, revoking: Revoking, account_id: UUID, session_id: UUID
) -> None:
    """Raises NotFound for one that is over or another's."""
    now = await database_now(session)
    login = await repository.find_live_session(session, session_id, account_id, now, lock=True)
    if login is None:
        raise NotFound
    login.end(EndReason.logout, now)
    revoking.ended(session, [login.id], now)


async def require_live(session: AsyncSession, caller: Principal) -> None:
    """For what must not outlive the session by an access token's 15 minutes. Raises
    SessionOver."""
    if caller.session_id is not None:
        now = utc_now()
        if await repository.find_live_session(session, caller.session_id, caller.id, now):
            return
    raise SessionOver


async def forget_old_sessions(database: Database) -> None:
    async with database.transaction() as session:
        await repository.forget_sessions(session, utc_now() - KEEP_ENDED)
