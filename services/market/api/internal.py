"""/internal: what the scheduler asks, as the user who will pay."""

from fastapi import APIRouter

from services.market.api.schemas import AuthorisationView, NewAuthorisation
from services.market.authorising import authorise
from services.market.deps import ToolsDep
from shared.app import Session
from shared.policy import Caller, Policy, policy

router = APIRouter(prefix="/internal", tags=["internal"])


@router.post("/authorisations", summary="May this start be paid?", **policy(Policy.ACTIVE))
async def create_authorisation(
    body: NewAuthorisation, caller: Caller, session: Session, tools: ToolsDep
) -> AuthorisationView:
    """Holds one hour's price on the caller's own wallet; nobody can name another payer. The same
    id and body repeat the answer, with how far the money reaches by then."""
    return AuthorisationView.of(await authorise(session, tools, caller.id, body.start()))
