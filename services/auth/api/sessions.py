"""/api/v1/sessions: login, refresh, logout."""

from uuid import UUID

from fastapi import APIRouter, Response

from services.auth import reading
from services.auth.api.schemas import Credentials, Refresh, SessionView, TokensView
from services.auth.deps import ClientAddress, PartsDep, UserAgent
from services.auth.login import end_session, open_session, refresh_session
from shared.app import Session
from shared.errors import NotFound
from shared.ids import new_id
from shared.pagination import Page, Paging
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])


@router.post("", status_code=201, summary="Log in", **policy(Policy.PUBLIC))
async def log_in(
    body: Credentials,
    session: Session,
    parts: PartsDep,
    address: ClientAddress,
    user_agent: UserAgent,
    response: Response,
) -> TokensView:
    """Pending and rejected accounts may log in to see how they stand."""
    account = await parts.authenticator.authenticate(
        body.username, body.password.get_secret_value(), address
    )
    granted = await open_session(
        session,
        parts.key,
        account,
        session_id=new_id(),
        address=address,
        user_agent=user_agent,
    )
    _keep_out_of_caches(response)
    return TokensView.of(granted)


@router.post("/refresh", status_code=201, summary="Go on", **policy(Policy.PUBLIC))
async def refresh(body: Refresh, parts: PartsDep, response: Response) -> TokensView:
    """Each refresh token has one successor. Presenting an old one again within 10 s repeats the
    answer; later it ends the session."""
    granted = await refresh_session(parts.database, parts.key, parts.revoking, body.refresh_token)
    _keep_out_of_caches(response)
    return TokensView.of(granted)


@router.get("", summary="My sessions", **policy(Policy.ANY_ACCOUNT))
async def list_sessions(caller: Caller, session: Session, paging: Paging) -> Page[SessionView]:
    items, total = await reading.list_sessions(session, caller.id, paging)
    views = [SessionView.of(item, caller.session_id) for item in items]
    return Page(items=views, total=total, page=paging.page, size=paging.size)


@router.delete("/current", status_code=204, summary="Log out", **policy(Policy.ANY_ACCOUNT))
async def log_out(caller: Caller, session: Session, parts: PartsDep) -> None:
    if caller.session_id is None:
        raise NotFound
    await end_session(session, parts.revoking, caller.id, caller.session_id)


@router.delete(
    "/{session_id}", status_code=204, summary="End one of my sessions", **policy(Policy.ANY_ACCOUNT)
)
async def end_one_session(
    session_id: UUID, caller: Caller, session: Session, parts: PartsDep
) -> None:
    await end_session(session, parts.revoking, caller.id, session_id)


def _keep_out_of_caches(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
