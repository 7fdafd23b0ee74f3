"""Accounts come, are judged, change and are switched off."""

from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import repository
from services.auth.domain.account import RESERVED_USERNAMES, AccountState, Move, transition
from services.auth.domain.session import EndReason
from services.auth.errors import EmailTaken, OwnAccount, UsernameTaken
from services.auth.models import Account
from services.auth.passwords import Passwords
from services.auth.revoking import Revoking
from shared.clock import utc_now
from shared.database import Database, database_now
from shared.events.auth import (
    AccountApproved,
    AccountDisabled,
    AccountEnabled,
    AccountRegistered,
    AccountRejected,
)
from shared.events.envelope import Payload
from shared.ids import new_id
from shared.outbox import emit
from shared.tokens import Role

log = structlog.get_logger(__name__)

FIRST_OPERATOR = "admin"
PASSWORD_LENGTH = (10, 128)


async def register(
    session: AsyncSession,
    *,
    username: str,
    email: str,
    phone: str,
    organisation: str,
    purpose: str,
    password_hash: str,
) -> Account:
    """A new pending account. Raises UsernameTaken, EmailTaken."""
    if username in RESERVED_USERNAMES:
        raise UsernameTaken(field="username")
    account = Account(
        id=new_id(),
        username=username,
        email=email.lower(),
        phone=phone,
        organisation=organisation,
        purpose=purpose,
        password_hash=password_hash,
        created_at=utc_now(),
    )
    await _add(session, account)
    return account


async def _add(session: AsyncSession, account: Account) -> None:
    await repository.add_account(session, account)
    registered = AccountRegistered(account_id=account.id, username=account.username)
    await emit(session, registered, subject=account.id, sequence=1, actor=account.id)
    log.info("account_registered", account_id=str(account.id))


async def move_account(
    session: AsyncSession,
    revoking: Revoking,
    account_id: UUID,
    move: Move,
    *,
    reason: str,
    actor: UUID,
) -> Account:
    """What an operator decides. Raises NotFound, IllegalTransition, OwnAccount."""
    if move is Move.disable and account_id == actor:
        raise OwnAccount
    account = await repository.get_account(session, account_id, lock=True)
    before = account.state
    account.status = transition(before, move).value
    account.status_reason = reason
    account.version += 1
    if move is Move.disable:
        now = await database_now(session)
        reason_ended = EndReason.account_disabled
        ended = await repository.end_sessions(session, account.id, reason_ended, now)
        revoking.ended(session, ended, now)
    fact = _fact(account, move, reason)
    await emit(session, fact, subject=account.id, sequence=account.version, actor=actor)
    log.info("account_moved", account_id=str(account.id), before=before.value, after=account.status)
    return account


def _fact(account: Account, move: Move, reason: str) -> Payload:
    match move:
        case Move.approve:
            return AccountApproved(account_id=account.id, username=account.username)
        case Move.reject:
            return AccountRejected(account_id=account.id, reason=reason)
        case Move.disable:
            return AccountDisabled(account_id=account.id, reason=reason)
        case Move.enable:
            return AccountEnabled(account_id=account.id)


async def update_profile(
    session: AsyncSession,
    account_id: UUID,
    *,
    email: str | None,
    phone: str | None,
    organisation: str | None,
) -> Account:
    """None leaves a field as it is. Raises EmailTaken."""
    account = await repository.get_account(session, account_id, lock=True)
    if email is not None and email.lower() != account.email:
        if await repository.email_is_taken(session, email.lower(), except_id=account_id):
            raise EmailTaken(field="email")
        account.email = email.lower()
    if phone is not None:
        account.phone = phone
    if organisation is not None:
        account.organisation = organisation
    return account


async def ensure_first_operator(
    database: Database, passwords: Passwords, password_file: Path
) -> None:
    """Make `admin` unless an operator exists. Raises ValueError for an unusable password."""
    async with database.transaction() as session:
        await repository.lock_first_operator(session)
        if await repository.has_operator(session):
            return
        account = Account(
            id=new_id(),
            username=FIRST_OPERATOR,
            email=f"{FIRST_OPERATOR}@localhost",
            phone="",
            organisation="Chusuan",
            purpose="first operator",
            password_hash=await passwords.hash(_read_password(password_file)),
            role=Role.operator.value,
            status=AccountState.active.value,
            version=2,
            created_at=utc_now(),
        )
        await _add(session, account)
        approved = AccountApproved(account_id=account.id, username=account.username)
        await emit(session, approved, subject=account.id, sequence=2)


def _read_password(file: Path) -> str:
    password = file.read_text().rstrip("\r\n")
    least, most = PASSWORD_LENGTH
    if not least <= len(password) <= most:
        raise ValueError(f"first_operator_password_file {file}: {least} to {most} characters")
    return password
