"""`POST /api/v1/instances/{id}/apps/{app}`: an address that opens an app once, for its owner."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel

from gateway.directory import Directory
from gateway.errors import InstanceNotRunning, NoSuchAddress, NoSuchApp
from gateway.origins import Origins
from gateway.routes import app_path, app_root
from gateway.tickets import TICKET_LIVES_S, Opener, Tickets
from shared.policy import Caller, Policy, policy
from shared.text import Text

router = APIRouter(tags=["gateway"])

AppName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class AppLinkView(BaseModel):
    """url: opens once, within expires_in seconds; it starts with `/` on the gateway's own host."""

    url: str
    expires_in: int


class Opening:
    """What the route needs; `app.state.opening`. directory: None where no scheduler is."""

    def __init__(self, directory: Directory | None, tickets: Tickets, origins: Origins) -> None:
        self.directory = directory
        self.tickets = tickets
        self.origins = origins


@router.post(
    "/api/v1/instances/{instance_id}/apps/{app}",
    summary="Open an app in the browser",
    **policy(Policy.ACTIVE),
)
async def open_app(
    instance_id: UUID, app: AppName, caller: Caller, request: Request, response: Response
) -> AppLinkView:
    """JupyterLab or whatever else the image brings, as `apps` of the instance names it. The
    instance must be the caller's and running."""
    parts: Opening = request.app.state.opening
    if parts.directory is None:
        raise NoSuchAddress
    with structlog.contextvars.bound_contextvars(
        request_id=getattr(request.state, "request_id", None),
        language=request.headers.get("accept-language", "")[:100],
    ):
        door = await parts.directory.find_as(instance_id, caller.token)
    path = next((known.path for known in door.apps if known.name == app), None)
    if path is None or app_path(f"{app_root(instance_id)}{path}") is None:
        named = ", ".join(known.name for known in door.apps)
        raise NoSuchApp(field="app", has=named or Text("无", "none"))
    if not door.running:
        raise InstanceNotRunning
    ticket = await parts.tickets.issue(Opener(caller.id, caller.session_id), instance_id)
    response.headers["Cache-Control"] = "no-store"
    target = f"{app_root(instance_id)}{path}?ticket={ticket}"
    return AppLinkView(
        url=f"{parts.origins.of_apps(instance_id)}{target}", expires_in=TICKET_LIVES_S
    )
