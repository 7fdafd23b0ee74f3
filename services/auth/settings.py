"""What auth must be told."""

from pathlib import Path

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings
from shared.tokens import MOST_TOKEN_LIVES_S


class AuthSettings(ServiceSettings):
    """signing_key_file: Ed25519 private key, PEM; made with mode 0600 when missing. Copies of auth
    share it.
    first_operator_password_file: read at a start that finds no operator, to make `admin`.
    service_secrets: by service name, what each proves itself with.
    broker_admin_url: of RabbitMQ's management, with its login, `http://user:password@host:15672`;
    without it there is no broker that outside programs could listen at.
    broker_public_url: what they are told, without a login, `amqps://host:5671/chusuan`.
    hash_threads: password hashes computed at once; each takes 32 MiB.
    """

    signing_key_file: Path
    first_operator_password_file: Path | None = None
    service_secrets: dict[str, SecretStr] = Field(default_factory=dict)
    broker_admin_url: SecretStr | None = None
    broker_public_url: str = ""
    access_token_lives_s: int = Field(default=900, ge=1, le=MOST_TOKEN_LIVES_S)
    hash_threads: int = 2
    failed_logins_per_account: int = 10
    failed_logins_per_address: int = 50
    failed_logins_window_s: int = 900
    registrations_per_address: int = 200
    registrations_window_s: int = 3600
