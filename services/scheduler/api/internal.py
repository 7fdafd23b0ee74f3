"""/internal: what other parts of the platform ask."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from services.scheduler import accounting, reading
from services.scheduler.api.run_schemas import MOST_RUNS, RunningPage, RunsAsked, RunStatesView
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


@router.get("/runs", summary="What runs and is to be paid", **policy(Policy.SERVICE))
async def list_runs(
    session: Session,
    after: UUID | None = None,
    size: Annotated[int, Query(ge=1, le=MOST_RUNS)] = MOST_RUNS,
) -> RunningPage:
    """By authorisation; after: the last one of the page before. A short page is the last."""
    return RunningPage.of(await accounting.list_running(session, after, size))


@router.post("/runs/states", summary="How these runs stand", **policy(Policy.SERVICE))
async def show_run_states(body: RunsAsked, session: Session) -> RunStatesView:
    """What is not known here is in no list."""
    return RunStatesView.of(await accounting.states_of(session, body.authorisations))
