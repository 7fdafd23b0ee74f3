"""A token is accepted only from the one issuer, in the one algorithm, for its time."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Unauthenticated, Unavailable
from shared.ids import new_id
from shared.tokens import ALGORITHM, AUDIENCE, ISSUER, Role, Verifier
from tests.identity import TestIdentity


@pytest.fixture
def identity() -> TestIdentity:
    return TestIdentity()


async def test_a_good_token_says_who_is_calling(identity: TestIdentity) -> None:
    account = new_id()
    caller = await Verifier(identity).verify(identity.token(account, role=Role.operator))
    assert (caller.id, caller.role) == (account, Role.operator)


async def test_an_expired_token_is_refused(identity: TestIdentity) -> None:
    with pytest.raises(Unauthenticated):
        await Verifier(identity).verify(identity.token(lives_s=-60))


async def test_a_token_of_another_signer_is_refused(identity: TestIdentity) -> None:
    with pytest.raises(Unauthenticated):
        await Verifier(identity).verify(TestIdentity().token())


def _claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": str(new_id()), "iat": now, "nbf": now,
        "exp": now + 60, "jti": str(new_id()), "typ": "access", "username": "x",
        "role": "user", "status": "active",
    }  # fmt: skip
    return {**claims, **changes}


@pytest.mark.parametrize(
    "changes",
    [{"iss": "other"}, {"aud": "other"}, {"typ": "refresh"}, {"sub": "no-id"}, {"role": "root"}],
)
async def test_a_token_with_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.generate()

    class Source:
        async def fetch(self) -> dict[str, Ed25519PublicKey]:
            return {"k": key.public_key()}

    token = jwt.encode(_claims(**changes), key, algorithm=ALGORITHM, headers={"kid": "k"})
    with pytest.raises(Unauthenticated):
        await Verifier(Source()).verify(token)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é.é.é"])
async def test_what_is_no_token_is_refused(identity: TestIdentity, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await Verifier(identity).verify(token)


async def test_a_symmetric_or_unsigned_token_is_refused(identity: TestIdentity) -> None:
    for algorithm, key in (("HS256", "x" * 32), ("none", "")):
        token = jwt.encode(_claims(), key, algorithm=algorithm, headers={"kid": "test"})
        with pytest.raises(Unauthenticated):
            await Verifier(identity).verify(token)


async def test_known_keys_serve_on_while_auth_is_away(identity: TestIdentity) -> None:
    class Flaky:
        away = False

        async def fetch(self) -> dict[str, Ed25519PublicKey]:
            if self.away:
                raise Unavailable
            return await identity.fetch()

    source = Flaky()
    verifier = Verifier(source)
    await verifier.verify(identity.token())
    source.away = True
    assert (await verifier.verify(identity.token())).username == "tester"
