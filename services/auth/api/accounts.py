"""/api/v1/accounts: registration, one's own profile, the operators' decisions."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from services.auth import reading
from services.auth.account_lifecycle import move_account, register, update_profile
from services.auth.api.schemas import (
    AccountView,
    PasswordChange,
    ProfileChange,
    Reason,
    Registration,
)
from services.auth.deps import ClientAddress, LiveCaller, PartsDep
from services.auth.domain.account import AccountState, Move
from shared.app import Session
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/accounts", tags=["accounts"])

Search = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.post("", status_code=201, summary="Register", **policy(Policy.PUBLIC))
async def register_account(
    body: Registration, session: Session, parts: PartsDep, address: ClientAddress
) -> AccountView:
    """A new account waits as `pending` until an operator approves it."""
    if address is not None:
        await parts.throttle.count(parts.registrations, address)
    password_hash = await parts.passwords.hash(body.password.get_secret_value())
    account = await register(
        session, **body.model_dump(exclude={"password"}), password_hash=password_hash
    )
    return AccountView.of(account)


@router.get("/me", summary="My account", **policy(Policy.ANY_ACCOUNT))
async def show_own_account(caller: Caller, session: Session) -> AccountView:
    return AccountView.of(await reading.show_account(session, caller.id))


@router.patch("/me", summary="Change my profile", **policy(Policy.ANY_ACCOUNT))
async def update_own_account(
    body: ProfileChange, caller: LiveCaller, session: Session
) -> AccountView:
    """Fields that are left out stay as they are."""
    return AccountView.of(await update_profile(session, caller.id, **body.model_dump()))


@router.post(
    "/me/password", status_code=204, summary="Change my password", **policy(Policy.ANY_ACCOUNT)
)
async def change_own_password(body: PasswordChange, caller: Caller, parts: PartsDep) -> None:
    """All other sessions of the account end."""
    await parts.authenticator.change_password(
        caller.id,
        caller.session_id,
        body.current_password.get_secret_value(),
        body.new_password.get_secret_value(),
    )


@router.get("", summary="All accounts", **policy(Policy.OPERATOR))
async def list_accounts(
    session: Session, paging: Paging, status: AccountState | None = None, q: Search = None
) -> Page[AccountView]:
    """q: part of username, e-mail, phone or organisation."""
    items, total = await reading.list_accounts(session, paging, status=status, q=q)
    views = [AccountView.of(item) for item in items]
    return Page(items=views, total=total, page=paging.page, size=paging.size)


@router.get("/{account_id}", summary="One account", **policy(Policy.OPERATOR))
async def show_account(account_id: UUID, session: Session) -> AccountView:
    return AccountView.of(await reading.show_account(session, account_id))


@router.post("/{account_id}/approve", summary="Approve", **policy(Policy.OPERATOR))
async def approve_account(
    account_id: UUID, caller: LiveCaller, session: Session, parts: PartsDep
) -> AccountView:
    """pending or rejected → active."""
    return AccountView.of(
        await move_account(
            session, parts.revoking, account_id, Move.approve, reason="", actor=caller.id
        )
    )


@router.post("/{account_id}/enable", summary="Enable again", **policy(Policy.OPERATOR))
async def enable_account(
    account_id: UUID, caller: LiveCaller, session: Session, parts: PartsDep
) -> AccountView:
    """disabled → active."""
    return AccountView.of(
        await move_account(
            session, parts.revoking, account_id, Move.enable, reason="", actor=caller.id
        )
    )


@router.post("/{account_id}/reject", summary="Reject", **policy(Policy.OPERATOR))
async def reject_account(
    account_id: UUID, body: Reason, caller: LiveCaller, session: Session, parts: PartsDep
) -> AccountView:
    """pending → rejected; the applicant sees the reason."""
    return AccountView.of(
        await move_account(
            session, parts.revoking, account_id, Move.reject, reason=body.reason, actor=caller.id
        )
    )


@router.post("/{account_id}/disable", summary="Disable", **policy(Policy.OPERATOR))
async def disable_account(
    account_id: UUID, body: Reason, caller: LiveCaller, session: Session, parts: PartsDep
) -> AccountView:
    """active → disabled; all its sessions end."""
    return AccountView.of(
        await move_account(
            session, parts.revoking, account_id, Move.disable, reason=body.reason, actor=caller.id
        )
    )
