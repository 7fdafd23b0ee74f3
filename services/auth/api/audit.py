"""/api/v1/audit: who did what."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from services.auth import reading
from services.auth.api.schemas import AuditView
from shared.app import Session
from shared.pagination import Page, Paging
from shared.policy import Policy, policy

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Filter = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("", summary="The audit trail", **policy(Policy.OPERATOR))
async def list_audit(
    session: Session,
    paging: Paging,
    actor_id: UUID | None = None,
    type: Filter = None,
    subject: Filter = None,
) -> Page[AuditView]:
    """type: a beginning, such as `auth.account`."""
    items, total = await reading.list_audit(
        session, paging, actor_id=actor_id, type_=type, subject=subject
    )
    views = [AuditView.of(item) for item in items]
    return Page(items=views, total=total, page=paging.page, size=paging.size)
