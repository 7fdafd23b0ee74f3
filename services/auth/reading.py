"""What people and operators look at."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import repository
from services.auth.domain.account import AccountState
from services.auth.models import Account, AuditEntry, LoginSession, OutsideSubscriber, SshKey
from services.auth.ssh_access import authorized_line
from shared.clock import utc_now
from shared.errors import NotFound
from shared.pagination import PageRequest


@dataclass(frozen=True, slots=True)
class KnownAccount:
    account: Account
    authorized_lines: list[str]


async def show_account(session: AsyncSession, account_id: UUID) -> Account:
    """Raises NotFound."""
    return await repository.get_account(session, account_id)


async def list_accounts(
    session: AsyncSession, paging: PageRequest, *, status: AccountState | None, q: str | None
) -> tuple[list[Account], int]:
    """q: part of username, e-mail, phone or organisation. Newest first."""
    return await repository.list_accounts(session, paging, status=status, q=q)


async def show_by_name(session: AsyncSession, username: str) -> KnownAccount:
    """Raises NotFound."""
    account = await repository.find_account(session, username)
    if account is None:
        raise NotFound
    keys = await repository.all_ssh_keys(session, account.id)
    return KnownAccount(account, [authorized_line(key, account.username) for key in keys])


async def list_sessions(
    session: AsyncSession, account_id: UUID, paging: PageRequest
) -> tuple[list[LoginSession], int]:
    """Those that go on; newest first."""
    return await repository.list_live_sessions(session, account_id, utc_now(), paging)


async def list_ssh_keys(
    session: AsyncSession, account_id: UUID, paging: PageRequest
) -> tuple[list[SshKey], int]:
    return await repository.list_ssh_keys(session, account_id, paging)


async def list_audit(
    session: AsyncSession,
    paging: PageRequest,
    *,
    actor_id: UUID | None,
    type_: str | None,
    subject: str | None,
) -> tuple[list[AuditEntry], int]:
    """type_: a beginning, such as `auth.account`. Newest first."""
    return await repository.list_audit(
        session, paging, actor_id=actor_id, type_=type_, subject=subject
    )


async def list_subscribers(
    session: AsyncSession, paging: PageRequest
) -> tuple[list[OutsideSubscriber], int]:
    """Those that are not gone, by name."""
    return await repository.list_subscribers(session, paging)
