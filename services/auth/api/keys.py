"""/.well-known/jwks.json: the keys with which everyone verifies tokens."""

from fastapi import APIRouter, Response

from services.auth.deps import PartsDep
from shared.policy import Policy, policy

router = APIRouter(tags=["keys"])


@router.get("/.well-known/jwks.json", summary="Token keys", **policy(Policy.PUBLIC))
async def show_keys(parts: PartsDep, response: Response) -> dict[str, list[dict[str, str]]]:
    response.headers["Cache-Control"] = "public, max-age=300"
    return parts.key.jwks()
