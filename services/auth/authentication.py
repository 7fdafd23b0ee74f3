"""Proving who one is: the password check behind login, SFTP and password change.

The transaction ends before the hash is computed: a slow check holds no connection.
"""

from dataclasses import dataclass
from uuid import UUID

import structlog

from services.auth import repository
from services.auth.auditing import record_own
from services.auth.domain.account import may_log_in
from services.auth.domain.session import EndReason
from services.auth.errors import (
    AccountDisabledNow,
    PasswordUnchanged,
    SessionOver,
    WrongCredentials,
    WrongPassword,
)
from services.auth.models import Account
from services.auth.passwords import Passwords
from services.auth.revoking import Revoking
from services.auth.throttle import Limit, Throttle
from shared.database import Database, database_now

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoginLimits:
    per_account: Limit
    per_address: Limit


class Authenticator:
    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        throttle: Throttle,
        limits: LoginLimits,
        revoking: Revoking,
    ) -> None:
        self._revoking = revoking
        self._database = database
        self._passwords = passwords
        self._throttle = throttle
        self._limits = limits

    async def authenticate(self, username: str, password: str, address: str | None) -> Account:
        """The account whose password this is. Raises WrongCredentials, AccountDisabledNow,
        TooManyAttempts, Busy. address: whence it came, None when nobody said."""
        if address is not None:
            await self._throttle.count(self._limits.per_address, address)
        await self._throttle.count(self._limits.per_account, username)
        async with self._database.transaction() as session:
            account = await repository.find_account(session, username)
        hashed = account.password_hash if account else None
        matches = await self._passwords.matches(password, hashed)
        if account is None or not matches:
            log.info("login_refused", address=address)
            raise WrongCredentials
        await self._throttle.forget(self._limits.per_account, username)
        if address is not None:
            await self._throttle.give_back(self._limits.per_address, address)
        refuse_disabled(account)
        return account

    async def change_password(
        self, account_id: UUID, session_id: UUID | None, current: str, new: str
    ) -> None:
        """Ends all other sessions. Raises WrongPassword, PasswordUnchanged, TooManyAttempts,
        Busy, SessionOver."""
        async with self._database.transaction() as session:
            account = await repository.get_account(session, account_id)
        await self._throttle.count(self._limits.per_account, account.username)
        if not await self._passwords.matches(current, account.password_hash):
            raise WrongPassword(field="current_password")
        await self._throttle.forget(self._limits.per_account, account.username)
        if current == new:
            raise PasswordUnchanged(field="new_password")
        hashed = await self._passwords.hash(new)
        async with self._database.transaction() as session:
            fresh = await repository.get_account(session, account_id, lock=True)
            now = await database_now(session)
            own = session_id and await repository.find_live_session(
                session, session_id, account_id, now
            )
            if not own or fresh.password_hash != account.password_hash:
                raise SessionOver
            fresh.password_hash = hashed
            ended = await repository.end_sessions(
                session, account_id, EndReason.password_changed, now, except_id=session_id
            )
            self._revoking.ended(session, ended, now)
            await record_own(session, "auth.password.changed", account_id, actor=account_id)


def refuse_disabled(account: Account) -> None:
    if not may_log_in(account.state):
        raise AccountDisabledNow(reason=account.status_reason)
