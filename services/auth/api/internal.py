"""/internal: what other services ask. The gateway never routes here."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from services.auth import reading, revoking
from services.auth.api.schemas import (
    Credentials,
    IdentityView,
    KnownAccountView,
    LivenessView,
    ServiceCredentials,
    ServiceTokenView,
)
from services.auth.deps import PartsDep
from services.auth.models import Account
from services.auth.service_identity import prove_service
from shared.app import Session
from shared.policy import Policy, policy
from shared.revocation import EndedSessions
from shared.tokens import AccountStatus, Role

router = APIRouter(prefix="/internal", tags=["internal"])

Name = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]

Since = Annotated[
    float, Query(ge=0, le=10**11, allow_inf_nan=False, description="Seconds since 1970.")
]


@router.post("/service-tokens", status_code=201, summary="Who I am", **policy(Policy.PUBLIC))
async def create_service_token(
    body: ServiceCredentials, parts: PartsDep, response: Response
) -> ServiceTokenView:
    """Public, since the secret in the body is the proof."""
    secrets = parts.settings.service_secrets
    prove_service(secrets, body.service, body.secret.get_secret_value())
    response.headers["Cache-Control"] = "no-store"
    return ServiceTokenView(
        access_token=parts.key.service_token(body.service), expires_in=parts.key.token_lives_s
    )


@router.post("/password-checks", summary="Is this their password?", **policy(Policy.SERVICE))
async def check_password(body: Credentials, parts: PartsDep) -> IdentityView:
    """For doors that take passwords themselves (SFTP). Counts as a login attempt."""
    account = await parts.authenticator.authenticate(
        body.username, body.password.get_secret_value(), None
    )
    return IdentityView.model_validate(_identity(account))


@router.get("/accounts/by-name/{username}", summary="Who is this?", **policy(Policy.SERVICE))
async def show_account_by_name(username: Name, session: Session) -> KnownAccountView:
    known = await reading.show_by_name(session, username)
    return KnownAccountView.model_validate(
        {**_identity(known.account), "ssh_keys": known.authorized_lines}
    )


@router.get("/ended-sessions", summary="Whose tokens are void", **policy(Policy.SERVICE))
async def show_ended_sessions(since: Since, session: Session) -> EndedSessions:
    """Those that ended since then and of which a token may still be about. For those who check
    tokens, while Redis cannot tell them."""
    return await revoking.ended_sessions(session, since)


@router.get("/sessions/{session_id}/live", summary="Does it go on?", **policy(Policy.SERVICE))
async def show_liveness(session_id: UUID, session: Session) -> LivenessView:
    """For what was opened with a login and outlives its tokens."""
    return LivenessView(live=await revoking.is_live(session, session_id))


def _identity(account: Account) -> dict[str, object]:
    return {
        "account_id": account.id,
        "username": account.username,
        "role": Role(account.role),
        "status": AccountStatus(account.status),
    }
