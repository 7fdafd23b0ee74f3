"""/api/v1/wallet, /api/v1/wallets: one's own money, and the operators' hand on everyone's."""

from uuid import UUID

from fastapi import APIRouter

from services.market import crediting, reading
from services.market.api.schemas import (
    BookedView,
    EntryView,
    NewCorrection,
    NewCredit,
    WalletView,
)
from services.market.deps import ToolsDep
from shared.app import Session
from shared.idempotency import IdempotencyKey, once
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1", tags=["wallet"])


@router.get("/wallet", summary="My balance", **policy(Policy.ACTIVE))
async def show_own_wallet(caller: Caller, session: Session) -> WalletView:
    """held: promised to starts and to what runs. It is not spent yet."""
    return WalletView.of(await reading.own_wallet(session, caller.id))


@router.get("/wallet/entries", summary="What moved in my wallet", **policy(Policy.ACTIVE))
async def list_own_entries(caller: Caller, session: Session, paging: Paging) -> Page[EntryView]:
    """Newest first."""
    return await _entries(session, caller.id, paging)


@router.get("/wallets/{account_id}", summary="An account's balance", **policy(Policy.OPERATOR))
async def show_wallet(account_id: UUID, session: Session) -> WalletView:
    return WalletView.of(await reading.any_wallet(session, account_id))


@router.get(
    "/wallets/{account_id}/entries", summary="What moved in a wallet", **policy(Policy.OPERATOR)
)
async def list_wallet_entries(
    account_id: UUID, session: Session, paging: Paging
) -> Page[EntryView]:
    """Newest first."""
    await reading.any_wallet(session, account_id)
    return await _entries(session, account_id, paging)


@router.post(
    "/wallets/{account_id}/credits",
    status_code=201,
    summary="Put money in",
    **policy(Policy.OPERATOR),
)
async def create_credit(
    account_id: UUID,
    body: NewCredit,
    caller: Caller,
    session: Session,
    tools: ToolsDep,
    idempotency_key: IdempotencyKey = None,
) -> BookedView:
    await crediting.await_wallet(tools, account_id)

    async def effect() -> BookedView:
        return BookedView.of(
            await crediting.credit(session, tools, account_id, body.amount, body.note, caller.id)
        )

    return await once(
        session,
        owner_id=caller.id,
        key=idempotency_key,
        operation=f"create_credit {account_id}",
        request=body,
        effect=effect,
        answer_type=BookedView,
    )


@router.post(
    "/wallets/{account_id}/corrections",
    status_code=201,
    summary="Take back a transaction",
    **policy(Policy.OPERATOR),
)
async def create_correction(
    account_id: UUID,
    body: NewCorrection,
    caller: Caller,
    session: Session,
    tools: ToolsDep,
    idempotency_key: IdempotencyKey = None,
) -> BookedView:
    """A new transaction undoes all that is left of the original and names it."""

    async def effect() -> BookedView:
        return BookedView.of(
            await crediting.correct(
                session, tools, account_id, body.transaction_id, body.note, caller.id
            )
        )

    return await once(
        session,
        owner_id=caller.id,
        key=idempotency_key,
        operation=f"create_correction {account_id}",
        request=body,
        effect=effect,
        answer_type=BookedView,
    )


async def _entries(session: Session, account_id: UUID, paging: Paging) -> Page[EntryView]:
    found, total = await reading.list_movements(session, account_id, paging)
    items = [EntryView.of(each) for each in found]
    return Page(items=items, total=total, page=paging.page, size=paging.size)
