"""Access tokens: EdDSA JWTs, signed by auth alone, verified by everyone for themselves.

The verifier accepts exactly one algorithm and one issuer, asks the configured key set only, and
ignores every key hint inside a token.
"""

import asyncio
import time
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import Unauthenticated, Unavailable

ISSUER = "chusuan"
AUDIENCE = "chusuan-api"
ALGORITHM = "EdDSA"
LEEWAY_S = 5
# No access token may live longer; for so long the end of its session is remembered.
MOST_TOKEN_LIVES_S = 3600
KEYS_MAX_AGE_S = 300.0
KEYS_REFETCH_AFTER_S = 5.0
CACHE_SIZE = 4096


class Role(StrEnum):
    user = "user"
    operator = "operator"
    service = "service"


class AccountStatus(StrEnum):
    pending = "pending"
    active = "active"
    rejected = "rejected"
    disabled = "disabled"


class Claims(BaseModel):
    """The body of an access token. `sub` is an account id, or a service's name-based id."""

    model_config = ConfigDict(extra="ignore")

    iss: str
    aud: str
    sub: UUID
    iat: int
    nbf: int
    exp: int
    jti: UUID
    typ: str
    sid: UUID | None = None
    username: str
    role: Role
    status: AccountStatus


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. token: as it came, to act for this user at another service."""

    id: UUID
    username: str
    role: Role
    status: AccountStatus
    session_id: UUID | None
    token: str


class KeySource(Protocol):
    async def fetch(self) -> dict[str, Ed25519PublicKey]:
        """Public keys by `kid`. Raises Unavailable."""
        ...


class JwksKeySource:
    """Keys from auth's `/.well-known/jwks.json`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def fetch(self) -> dict[str, Ed25519PublicKey]:
        try:
            response = await self._http.get("/.well-known/jwks.json")
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable from error
        keys = {}
        for jwk in jwt.PyJWKSet.from_dict(response.json()).keys:
            if jwk.key_id and isinstance(jwk.key, Ed25519PublicKey):
                keys[jwk.key_id] = jwk.key
        return keys


class Verifier:
    def __init__(self, source: KeySource, ended: Container[UUID] = frozenset()) -> None:
        """ended: sessions whose tokens are good no more, although their time is not over."""
        self._source = source
        self._ended = ended
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._verified: dict[str, tuple[float, Principal]] = {}

    async def verify(self, token: str) -> Principal:
        """Raises Unauthenticated, or Unavailable when no key is known and auth is away."""
        known = self._verified.get(token)
        if known is not None and known[0] > time.time():
            principal = known[1]
        else:
            principal = await self._check(token)
        if principal.session_id is not None and principal.session_id in self._ended:
            raise Unauthenticated
        return principal

    async def _check(self, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated from error
        key = await self._key(str(header.get("kid", "")))
        try:
            body = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": ["exp", "nbf", "iat", "iss", "aud", "sub", "jti"]},
            )
            claims = Claims.model_validate(body)
        except (jwt.PyJWTError, ValidationError) as error:
            raise Unauthenticated from error
        if claims.typ != "access":
            raise Unauthenticated
        principal = Principal(
            id=claims.sub,
            username=claims.username,
            role=claims.role,
            status=claims.status,
            session_id=claims.sid,
            token=token,
        )
        if len(self._verified) >= CACHE_SIZE:
            self._verified.clear()
        self._verified[token] = (claims.exp + LEEWAY_S, principal)
        return principal

    async def _key(self, kid: str) -> Ed25519PublicKey:
        age = time.monotonic() - self._fetched_at
        if age > KEYS_MAX_AGE_S or (kid not in self._keys and age > KEYS_REFETCH_AFTER_S):
            await self._refetch()
        if kid not in self._keys:
            raise Unauthenticated
        return self._keys[kid]

    async def _refetch(self) -> None:
        before = self._fetched_at
        async with self._fetching:
            if self._fetched_at != before:
                return
            try:
                self._keys = await self._source.fetch()
            except Unavailable:
                if not self._keys:
                    raise
            else:
                self._fetched_at = time.monotonic()
                self._verified.clear()
