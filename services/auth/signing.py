"""The platform's signing key and the tokens made with it."""

import base64
import hashlib
import hmac
import json
import os
import time
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared.ids import new_id
from shared.tokens import ALGORITHM, AUDIENCE, ISSUER, AccountStatus, Role


class SigningKey:
    """Signs access tokens; is the KeySource with which auth verifies its own."""

    def __init__(self, private: Ed25519PrivateKey, *, token_lives_s: int) -> None:
        self._private = private
        self.token_lives_s = token_lives_s
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._x = _base64url(raw)
        # RFC 7638 over RFC 8037's members: the same key has the same name in every copy of auth.
        members = json.dumps(
            {"crv": "Ed25519", "kty": "OKP", "x": self._x}, separators=(",", ":"), sort_keys=True
        )
        self.kid = _base64url(hashlib.sha256(members.encode()).digest())
        secret = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self.refresh_key = hmac.new(secret, b"chusuan refresh tokens", hashlib.sha256).digest()
        self.outside_key = hmac.new(secret, b"chusuan outside programs", hashlib.sha256).digest()

    async def fetch(self) -> dict[str, Ed25519PublicKey]:
        return {self.kid: self._private.public_key()}

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """RFC 7517."""
        key = {"kty": "OKP", "crv": "Ed25519", "x": self._x, "kid": self.kid}
        return {"keys": [{**key, "use": "sig", "alg": ALGORITHM}]}

    def access_token(
        self,
        subject: UUID,
        *,
        username: str,
        role: Role,
        status: AccountStatus,
        session_id: UUID | None,
    ) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(subject),
            "iat": now,
            "nbf": now,
            "exp": now + self.token_lives_s,
            "jti": str(new_id()),
            "typ": "access",
            "username": username,
            "role": role.value,
            "status": status.value,
        }
        if session_id is not None:
            claims["sid"] = str(session_id)
        return jwt.encode(claims, self._private, algorithm=ALGORITHM, headers={"kid": self.kid})

    def service_token(self, service: str) -> str:
        return self.access_token(
            uuid5(NAMESPACE_URL, f"chusuan:service:{service}"),
            username=service,
            role=Role.service,
            status=AccountStatus.active,
            session_id=None,
        )


def load_signing_key(path: Path, *, token_lives_s: int) -> SigningKey:
    """Read the key, or make it with mode 0600. Raises ValueError when the file holds another."""
    if not path.exists():
        _create(path)
    private = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"signing_key_file {path}: an Ed25519 private key in PEM is needed")
    return SigningKey(private, token_lives_s=token_lives_s)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    # Whole under another name first, then linked: two copies that start together end up with
    # the same key, and neither ever reads half of one.
    partial = path.with_name(f".{path.name}.{new_id().hex}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            return
    finally:
        partial.unlink()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
