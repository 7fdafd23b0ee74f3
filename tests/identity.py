"""Callers for tests of one service: tokens signed by a key that the service under test trusts."""

import time
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.ids import new_id
from shared.tokens import ALGORITHM, AUDIENCE, ISSUER, AccountStatus, Role


class TestIdentity:
    """Is the `key_source` of the app under test, and mints what it accepts."""

    __test__ = False

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    async def fetch(self) -> dict[str, Ed25519PublicKey]:
        return {"test": self._key.public_key()}

    def token(
        self,
        account_id: UUID | None = None,
        *,
        username: str = "tester",
        role: Role = Role.user,
        status: AccountStatus = AccountStatus.active,
        lives_s: int = 900,
        session_id: UUID | None = None,
    ) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(account_id or new_id()),
            "iat": now,
            "nbf": now,
            "exp": now + lives_s,
            "jti": str(new_id()),
            "typ": "access",
            "username": username,
            "role": role.value,
            "status": status.value,
        }
        if session_id is not None:
            claims["sid"] = str(session_id)
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": "test"})

    def headers(self, account_id: UUID | None = None, **kwargs: object) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(account_id, **kwargs)}"}  # type: ignore[arg-type]
