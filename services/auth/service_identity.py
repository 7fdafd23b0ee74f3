"""Services prove who they are with a secret each."""

import hmac
from collections.abc import Mapping

from pydantic import SecretStr

from services.auth.errors import WrongCredentials


def prove_service(secrets: Mapping[str, SecretStr], service: str, secret: str) -> None:
    """Takes the same time for a name that does not exist. Raises WrongCredentials."""
    known = secrets.get(service)
    expected = known.get_secret_value() if known is not None else "\0unknown"
    same = hmac.compare_digest(expected.encode(), secret.encode())
    if known is None or not expected or not same:
        raise WrongCredentials
