"""/api/v1/instances: rent, start, stop, restart, save, release, and see."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from services.scheduler import reading, saving, starting, stopping
from services.scheduler.api.answering import AnswersDep
from services.scheduler.api.schemas import (
    CredentialsView,
    EventView,
    InstanceView,
    NewInstance,
    Nothing,
    SaveWish,
    StartWish,
)
from services.scheduler.deps import ToolsDep
from services.scheduler.domain.states import State, StopReason
from services.scheduler.renting import Wish, rent
from shared.app import CallerLanguage, Session
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/instances", tags=["instances"])


@router.post("", status_code=201, summary="Rent GPUs", **policy(Policy.ACTIVE))
async def rent_instance(
    body: NewInstance, caller: Caller, tools: ToolsDep, answers: AnswersDep
) -> InstanceView:
    """An hour's price is held first (402 when it is not there). Where no GPU is free the instance
    waits in the host's queue and starts by itself."""
    wish = Wish(
        name=body.name or "",
        offer_id=body.offer_id,
        gpu_count=body.gpu_count,
        image_id=body.image_id,
        env=body.env,
    )
    return await rent(tools, caller, wish, answers.kept("rent_instance", body))


@router.get("", summary="My instances", **policy(Policy.ACTIVE))
async def list_instances(
    caller: Caller,
    session: Session,
    paging: Paging,
    answers: AnswersDep,
    status: Annotated[State | None, Query()] = None,
) -> Page[InstanceView]:
    """Newest first, released ones included."""
    shown, total = await reading.list_instances(session, caller.id, status, paging)
    items = [answers.of(one) for one in shown]
    return Page(items=items, total=total, page=paging.page, size=paging.size)


@router.get("/{instance_id}", summary="One instance", **policy(Policy.ACTIVE))
async def show_instance(
    instance_id: UUID, caller: Caller, session: Session, answers: AnswersDep
) -> InstanceView:
    return answers.of(await reading.read_instance(session, instance_id, caller.id))


@router.get("/{instance_id}/credentials", summary="Its secrets", **policy(Policy.ACTIVE))
async def show_credentials(instance_id: UUID, caller: Caller, session: Session) -> CredentialsView:
    """root's SSH password and the token of its apps. Reading them is recorded."""
    return CredentialsView.of(await reading.read_credentials(session, instance_id, caller.id))


@router.get("/{instance_id}/events", summary="Its history", **policy(Policy.ACTIVE))
async def list_instance_events(
    instance_id: UUID, caller: Caller, session: Session, paging: Paging, language: CallerLanguage
) -> Page[EventView]:
    """Newest first."""
    entries, total = await reading.list_history(session, instance_id, caller.id, paging)
    items = [EventView.of(entry, language) for entry in entries]
    return Page(items=items, total=total, page=paging.page, size=paging.size)


@router.post("/{instance_id}/start", summary="Start it again", **policy(Policy.ACTIVE))
async def start_instance(
    instance_id: UUID, body: StartWish, caller: Caller, tools: ToolsDep, answers: AnswersDep
) -> InstanceView:
    """With GPUs or in no-card mode. GPUs that are taken: 409 `gpus_taken` with the choices, or
    with `wait` a place in the host's queue and a start by itself. An hour's price is held first."""
    kept = answers.kept(f"start_instance {instance_id}", body)
    wanted = starting.StartOrder(body.mode, body.wait)
    return await starting.start(tools, caller, instance_id, wanted, kept)


@router.post("/{instance_id}/restart", summary="Stop and start it", **policy(Policy.ACTIVE))
async def restart_instance(
    instance_id: UUID,
    caller: Caller,
    tools: ToolsDep,
    answers: AnswersDep,
    body: Nothing | None = None,
) -> InstanceView:
    """In the same mode, on the same GPUs; the seconds between are not billed."""
    kept = answers.kept(f"restart_instance {instance_id}", body or Nothing())
    return await starting.restart(tools, caller, instance_id, kept)


@router.post("/{instance_id}/stop", summary="Stop it", **policy(Policy.ACTIVE))
async def stop_instance(
    instance_id: UUID,
    caller: Caller,
    tools: ToolsDep,
    session: Session,
    answers: AnswersDep,
    body: Nothing | None = None,
) -> InstanceView:
    """Always accepted. Its disks stay; its GPUs go back to the market."""
    instance = await stopping.owned(session, instance_id, caller.id)
    await stopping.stop(session, tools.signals, instance, StopReason.user, actor=caller.id)
    return await answers.view(session, instance)


@router.post("/{instance_id}/release", summary="Give it back", **policy(Policy.ACTIVE))
async def release_instance(
    instance_id: UUID,
    caller: Caller,
    tools: ToolsDep,
    session: Session,
    answers: AnswersDep,
    body: Nothing | None = None,
) -> InstanceView:
    """Always accepted. System and data disk are deleted; the net disk stays."""
    instance = await stopping.owned(session, instance_id, caller.id)
    await stopping.release(session, tools.signals, instance, actor=caller.id)
    return await answers.view(session, instance)


@router.post("/{instance_id}/save", summary="Save as an image", **policy(Policy.ACTIVE))
async def save_instance(
    instance_id: UUID, body: SaveWish, caller: Caller, tools: ToolsDep, answers: AnswersDep
) -> InstanceView:
    """The system disk becomes an image of yours; the data disk and secrets are not in it."""
    kept = answers.kept(f"save_instance {instance_id}", body)
    return await saving.save(tools, caller, instance_id, body.name, kept)
