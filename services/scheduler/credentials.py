"""What an instance is born with: password, app token, SSH host key."""

import secrets
import string
from dataclasses import dataclass

import bcrypt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PASSWORD_LENGTH = 16
# 95 random bits need no slow hash, and a slow one would be felt at every rent.
ROUNDS = 5
# Without the letters that people confuse.
ALPHABET = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))


@dataclass(frozen=True, slots=True)
class Secrets:
    """password_hash: crypt(3) `$2b$`. ssh_host_key: Ed25519, OpenSSH PEM."""

    password: str
    password_hash: str
    app_token: str
    ssh_host_key: str


def make_secrets() -> Secrets:
    password = "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))
    key = Ed25519PrivateKey.generate()
    return Secrets(
        password=password,
        password_hash=bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode(),
        app_token=secrets.token_hex(24),
        ssh_host_key=key.private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        ).decode(),
    )
