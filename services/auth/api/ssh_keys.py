"""/api/v1/ssh-keys: the public keys with which one enters instances and the net disk."""

from uuid import UUID

from fastapi import APIRouter

from services.auth import reading
from services.auth.api.schemas import NewSshKey, SshKeyView
from services.auth.deps import LiveCaller
from services.auth.ssh_access import add_ssh_key, remove_ssh_key
from shared.app import Session
from shared.idempotency import IdempotencyKey, once
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/ssh-keys", tags=["ssh-keys"])


@router.get("", summary="My SSH keys", **policy(Policy.ACTIVE))
async def list_ssh_keys(caller: Caller, session: Session, paging: Paging) -> Page[SshKeyView]:
    items, total = await reading.list_ssh_keys(session, caller.id, paging)
    views = [SshKeyView.of(item) for item in items]
    return Page(items=views, total=total, page=paging.page, size=paging.size)


@router.post("", status_code=201, summary="Add an SSH key", **policy(Policy.ACTIVE))
async def create_ssh_key(
    body: NewSshKey, caller: LiveCaller, session: Session, idempotency_key: IdempotencyKey = None
) -> SshKeyView:
    """One line of a .pub file; options are refused, the comment is not kept."""

    async def effect() -> SshKeyView:
        key = await add_ssh_key(session, caller.id, name=body.name, public_key=body.public_key)
        return SshKeyView.of(key)

    return await once(
        session,
        owner_id=caller.id,
        key=idempotency_key,
        operation="create_ssh_key",
        request=body,
        effect=effect,
        answer_type=SshKeyView,
    )


@router.delete("/{key_id}", status_code=204, summary="Remove a key", **policy(Policy.ACTIVE))
async def delete_ssh_key(key_id: UUID, caller: LiveCaller, session: Session) -> None:
    await remove_ssh_key(session, caller.id, key_id)
