"""The signing key file and the tokens made with it."""

from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.auth.signing import load_signing_key
from shared.ids import new_id
from shared.tokens import AccountStatus, Role, Verifier


def test_a_missing_key_is_made_for_the_owner_alone_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    first = load_signing_key(path, token_lives_s=900)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["signing.pem"]
    again = load_signing_key(path, token_lives_s=900)
    assert (again.kid, again.refresh_key) == (first.kid, first.refresh_key)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="Ed25519"):
        load_signing_key(path, token_lives_s=900)


async def test_a_token_says_whose_it_is_to_everyone_who_asks_the_key_set(tmp_path: Path) -> None:
    key = load_signing_key(tmp_path / "signing.pem", token_lives_s=900)
    account, login = new_id(), new_id()
    token = key.access_token(
        account,
        username="ada",
        role=Role.operator,
        status=AccountStatus.active,
        session_id=login,
    )
    principal = await Verifier(key).verify(token)
    assert (principal.id, principal.session_id) == (account, login)
    assert (principal.username, principal.role) == ("ada", Role.operator)
    [published] = jwt.PyJWKSet.from_dict(key.jwks()).keys
    assert published.key_id == jwt.get_unverified_header(token)["kid"]


async def test_a_service_token_carries_the_name_based_id(tmp_path: Path) -> None:
    key = load_signing_key(tmp_path / "signing.pem", token_lives_s=900)
    principal = await Verifier(key).verify(key.service_token("market"))
    assert principal.id == uuid5(NAMESPACE_URL, "chusuan:service:market")
    assert (principal.role, principal.session_id) == (Role.service, None)
