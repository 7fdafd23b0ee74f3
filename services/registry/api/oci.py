"""/internal/oci: what the door before the OCI registry asks about each request of a host.

Open to whoever reaches this service, as only the platform's own network does: the host's login in
the question is what is checked.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from services.registry.authorising import Verdict, authorise
from services.registry.deps import ToolsDep
from shared.policy import Policy, policy

router = APIRouter(prefix="/internal/oci", tags=["internal"])

STATUS = {Verdict.allowed: 200, Verdict.unknown: 401, Verdict.refused: 403}
# Docker sends its login only when it is asked for one.
CHALLENGE = {"WWW-Authenticate": 'Basic realm="chusuan"'}
Words = Annotated[str, Header(max_length=8000)]


@router.get(
    "/authorise",
    summary="May a host do this",
    responses={401: {"description": "Not a host of ours"}, 403: {"description": "Not this"}},
    **policy(Policy.PUBLIC),
)
async def authorise_host(
    tools: ToolsDep,
    authorization: Words = "",
    x_original_method: Words = "",
    x_original_uri: Words = "",
) -> Response:
    """Pull what is there; push what is awaited of this very host."""
    verdict = await authorise(tools, authorization, x_original_method, x_original_uri)
    headers = CHALLENGE if verdict is Verdict.unknown else {}
    return Response(status_code=STATUS[verdict], headers=headers)
