"""Which host may pull or push what: asked by the door before the OCI registry, for each request."""

import base64
import binascii
import re
from enum import StrEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import repository as rows
from services.registry.domain.access import Access, Verb, accesses
from services.registry.domain.states import Kind, State
from services.registry.models import Image
from services.registry.tools import Tools

_LOGIN = re.compile(r"node\.([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
MAX_PASSWORD = 200


class Verdict(StrEnum):
    """unknown: no login, or not a node's."""

    allowed = "allowed"
    unknown = "unknown"
    refused = "refused"


async def authorise(tools: Tools, authorization: str, method: str, uri: str) -> Verdict:
    """Raises Unavailable where the scheduler cannot be asked."""
    login, password = _basic(authorization)
    found = _LOGIN.fullmatch(login)
    if found is None or not await tools.logins.is_good(login, password):
        return Verdict.unknown
    wanted = accesses(method, uri)
    if wanted is None:
        return Verdict.refused
    async with tools.database.transaction() as session:
        for access in wanted:
            if not await _may(session, tools, access, UUID(found[1])):
                return Verdict.refused
    return Verdict.allowed


async def _may(session: AsyncSession, tools: Tools, access: Access, node_id: UUID) -> bool:
    """Pull: any image that is there. Push: one that is awaited of this very node."""
    registry = tools.settings.oci_address
    if not registry:
        return False
    images = await rows.in_repository(session, f"{registry}/{access.repository}")
    if access.tag is not None:
        images = [i for i in images if i.address.endswith(f"/{access.repository}:{access.tag}")]
    if access.verb is Verb.pull:
        return bool(images)
    return any(_awaits(image, node_id) for image in images)


def _awaits(image: Image, node_id: UUID) -> bool:
    """A ready image's bytes are never changed."""
    if image.kind == Kind.system.value:
        return image.status != State.ready.value and image.builder == f"node.{node_id}"
    return image.status == State.building.value and image.host_id == node_id


def _basic(authorization: str) -> tuple[str, str]:
    """Empty words for what is no such header."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        words = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return "", ""
    login, colon, password = words.partition(":")
    is_sound = colon and password.isprintable() and len(password) <= MAX_PASSWORD
    return (login, password) if is_sound else ("", "")
