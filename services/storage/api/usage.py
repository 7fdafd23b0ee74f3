"""How full the net disk is, and its expansion."""

from uuid import UUID

from fastapi import APIRouter

from services.storage.api.schemas import Quota, UsageView
from services.storage.deps import VolumesDep
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/storage")


@router.get("/usage", **policy(Policy.ACTIVE))
async def show_usage(caller: Caller, volumes: VolumesDep) -> UsageView:
    """Used and allowed, in bytes and files; what containers wrote counts too."""
    return UsageView.model_validate(await volumes.usage(caller.id))


@router.put("/volumes/{account_id}", **policy(Policy.OPERATOR))
async def set_quota(account_id: UUID, body: Quota, volumes: VolumesDep) -> UsageView:
    """Give an account more room, or less; what is there stays."""
    return UsageView.model_validate(await volumes.set_quota(account_id, body.quota_bytes))
