"""`chusuan agent --join TOKEN`: a host becomes a node of a platform, once.

A token names the platform, whom to trust there, and a secret that is good for one host. An answer
that was lost costs nothing: the same host asks again and gets a fresh password.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import ssl
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints, ValidationError

from agent import credential as stored
from agent.credential import Credential, hash_of

log = structlog.get_logger(__name__)

PREFIX = "csj1."
TIMEOUT_S = 20.0
CA_LIMIT_BYTES = 1 << 20
INVITE = "ask an operator for a new one: chusuan nodes invite"


class JoinError(Exception):
    """A sentence for the one who runs the host; it names the cure."""


Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$", max_length=500)]


class Token(BaseModel):
    """u: the gateway. s: the secret. c: sha256 of its CA's PEM, hex; empty: publicly trusted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    u: Annotated[
        str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$", max_length=500)
    ]
    s: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    c: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""

    @property
    def platform(self) -> str:
        return self.u.rstrip("/")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    node_id: UUID
    bus_url: SecretStr
    registry_address: str = ""
    registry_username: str = ""
    registry_password: SecretStr = SecretStr("")
    ca_pem: str = ""


def read_token(text: str) -> Token:
    """Raises JoinError."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise JoinError(f"this is no join token: one begins with {PREFIX!r}; {INVITE}")
    body = text.removeprefix(PREFIX)
    try:
        document = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True))
        return Token.model_validate(document)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise JoinError(
            f"the join token is damaged, perhaps not copied whole; copy it again, or {INVITE}"
        ) from error


async def enter(
    state_dir: Path, token: Token | None, *, agent_id: UUID, name: str, region: str
) -> Credential | None:
    """The credential of this host, joined now where it must be; None: never joined, and no token.
    Raises JoinError, CredentialUnreadable."""
    known = await asyncio.to_thread(stored.load, state_dir)
    if token is None:
        return known
    if known is not None:
        if known.platform != token.platform:
            raise JoinError(
                f"this host belongs to {known.platform} already, the token is for {token.platform}:"
                f" remove the host there (chusuan nodes remove), then {state_dir / stored.FILE}"
            )
        if known.token_hash == hash_of(token.s):
            return known
    joined = await join(token, agent_id=agent_id, name=name, region=region)
    await asyncio.to_thread(stored.store, state_dir, joined)
    log.info("joined", platform=joined.platform, node_id=str(joined.node_id))
    return joined


async def join(token: Token, *, agent_id: UUID, name: str, region: str) -> Credential:
    """Raises JoinError."""
    trust, pem = await _trust_of(token)
    body = {"secret": token.s, "agent_id": str(agent_id), "name": name, "region": region}
    async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=TIMEOUT_S) as http:
        try:
            response = await http.post(f"{token.platform}/api/v1/nodes/join", json=body)
        except httpx.HTTPError as error:
            raise _no_contact(token, error) from error
    if response.status_code // 100 != 2:
        raise JoinError(_refusal(token, response))
    try:
        answer = _Answer.model_validate_json(response.content)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise JoinError(
            f"{token.platform} answered what this agent does not understand ({fields}):"
            " install the agent of the platform's own version"
        ) from error
    return Credential(
        platform=token.platform,
        token_hash=hash_of(token.s),
        node_id=answer.node_id,
        bus_url=answer.bus_url,
        registry_address=answer.registry_address,
        registry_username=answer.registry_username,
        registry_password=answer.registry_password,
        ca_pem=answer.ca_pem or pem,
    )


async def _trust_of(token: Token) -> tuple[ssl.SSLContext | bool, str]:
    """Whom to trust, and as PEM. What comes unverified is held to the token's own hash."""
    if not token.c:
        return True, ""
    try:
        async with httpx.AsyncClient(verify=False, trust_env=False, timeout=TIMEOUT_S) as http:  # noqa: S501  see above
            response = await http.get(f"{token.platform}/ca.pem")
            response.raise_for_status()
    except httpx.HTTPError as error:
        raise _no_contact(token, error) from error
    if hashlib.sha256(response.content).hexdigest() != token.c:
        raise JoinError(
            f"{token.platform} shows another certificate authority than the token names: somebody"
            f" stands between, or it was made anew since; {INVITE}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        pem = response.content.decode("ascii")
        context.load_verify_locations(cadata=pem)
    except (UnicodeDecodeError, ssl.SSLError) as error:
        raise JoinError(f"{token.platform}/ca.pem is no certificate: {error}") from error
    return context, pem


def _no_contact(token: Token, error: httpx.HTTPError) -> JoinError:
    host = urlsplit(token.platform).netloc
    return JoinError(
        f"{host} cannot be reached ({error or type(error).__name__}): check address, firewall and"
        " certificate, then run the same command again"
    )


def _refusal(token: Token, response: httpx.Response) -> str:
    said = _detail_of(response)
    match response.status_code:
        case 401 | 403 | 404 | 410:
            return f"the token is not valid any more, or never was ({said}); {INVITE}"
        case 409:
            return f"the token was used by another host, or cannot be used now ({said}); {INVITE}"
        case 429:
            return f"too many tries ({said}): wait a minute, then run the same command again"
        case 400 | 422:
            return f"{token.platform} refused name or region of this host: {said}"
    return (
        f"{token.platform} answered {response.status_code} ({said}): run the same command again"
        " when it is well"
    )


def _detail_of(response: httpx.Response) -> str:
    """The problem's own words, in one line that can be shown."""
    try:
        problem = response.json()
        words = str(problem.get("detail") or problem.get("title") or "")
    except (ValueError, AttributeError):
        words = response.text
    return "".join(c for c in " ".join(words.split()) if c.isprintable())[:300] or "no reason given"
