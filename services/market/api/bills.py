"""/api/v1/bills: what each run cost."""

from fastapi import APIRouter

from services.market import reading
from services.market.api.schemas import BillView
from shared.app import Session
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/bills", tags=["bills"])


@router.get("", summary="My bills", **policy(Policy.ACTIVE))
async def list_bills(caller: Caller, session: Session, paging: Paging) -> Page[BillView]:
    """Newest first; one for each start, the running ones with what is proven so far."""
    bills, total = await reading.list_bills(session, caller.id, paging)
    items = [BillView.of(bill) for bill in bills]
    return Page(items=items, total=total, page=paging.page, size=paging.size)
