"""How full the net disk is, its expansion, and its other doors."""

from uuid import UUID

from fastapi import APIRouter

from services.storage.api.schemas import Quota, SftpView, StorageView, UsageView
from services.storage.deps import SftpDep, VolumesDep
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/storage")


@router.get("", summary="Its SFTP door", **policy(Policy.ACTIVE))
async def show_storage(sftp: SftpDep) -> StorageView:
    """The ways into the net disk besides this API."""
    return StorageView(sftp=None if sftp is None else SftpView.model_validate(sftp))


@router.get("/usage", summary="How full it is", **policy(Policy.ACTIVE))
async def show_usage(caller: Caller, volumes: VolumesDep) -> UsageView:
    """Used and allowed, in bytes and files; what containers wrote counts too."""
    return UsageView.model_validate(await volumes.usage(caller.id))


@router.put("/volumes/{account_id}", summary="Set a quota", **policy(Policy.OPERATOR))
async def set_quota(account_id: UUID, body: Quota, volumes: VolumesDep) -> UsageView:
    """Give an account more room, or less; what is there stays."""
    return UsageView.model_validate(await volumes.set_quota(account_id, body.quota_bytes))
