"""/internal: what other services ask. The gateway never routes here."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from services.auth import reading
from services.auth.api.schemas import (
    Credentials,
    IdentityView,
    KnownAccountView,
    ServiceCredentials,
    ServiceTokenView,
)
from services.auth.deps import PartsDep
from services.auth.models import Account
from services.auth.service_identity import prove_service
from shared.app import Session
from shared.policy import Policy, policy
from shared.tokens import AccountStatus, Role

router = APIRouter(prefix="/internal", tags=["internal"])

Name = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[^\x00]+$")]


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


def _identity(account: Account) -> dict[str, object]:
    return {
        "account_id": account.id,
        "username": account.username,
        "role": Role(account.role),
        "status": AccountStatus(account.status),
    }
