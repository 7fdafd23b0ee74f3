"""/internal: what other parts of the platform ask."""

from uuid import UUID

from fastapi import APIRouter, Depends

from services.scheduler import reading
from services.scheduler.api.schemas import AppDoorView
from shared.app import Session
from shared.errors import Forbidden
from shared.policy import Caller, Policy, policy
from shared.tokens import AccountStatus, Role

router = APIRouter(prefix="/internal", tags=["internal"])


async def _active_or_service(caller: Caller) -> None:
    if caller.role is not Role.service and caller.status is not AccountStatus.active:
        raise Forbidden


_options = policy(Policy.ACTIVE)
_options["dependencies"] = [Depends(_active_or_service)]


@router.get("/instances/{instance_id}/app", summary="Where its apps are", **_options)
async def show_app(instance_id: UUID, caller: Caller, session: Session) -> AppDoorView:
    """As its owner, or as a part of the platform."""
    instance, node = await reading.read_app(
        session, instance_id, caller, any_owner=caller.role is Role.service
    )
    return AppDoorView.of(instance, node)
