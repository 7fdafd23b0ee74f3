"""What auth reads and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from services.auth.domain.subscriber import SubscriberState, login_of, password_of
from services.auth.login import Granted
from services.auth.models import Account, AuditEntry, LoginSession, OutsideSubscriber, SshKey
from services.auth.signing import SigningKey
from shared.tokens import AccountStatus, Role

# No control character but line ends and tabs; the database takes no NUL.
_LINE = r"^[^\x00-\x1f\x7f]+$"
_PROSE = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$"
_EMAIL = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+\.[^@\s\x00-\x1f\x7f]+$"

Username = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{2,31}$")]
Email = Annotated[str, StringConstraints(max_length=254, pattern=_EMAIL, strip_whitespace=True)]
Phone = Annotated[str, StringConstraints(pattern=r"^\+?[0-9][0-9 -]{4,30}$", strip_whitespace=True)]
Line = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=_LINE, strip_whitespace=True)
]
Prose = Annotated[
    str, StringConstraints(min_length=1, max_length=2000, pattern=_PROSE, strip_whitespace=True)
]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _encodable(secret: SecretStr) -> SecretStr:
    """JSON can carry half a character; SecretStr, unlike str, lets it through."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode / 不是有效的 Unicode 文本") from None
    return secret


NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=128), AfterValidator(_encodable)]
GivenPassword = Annotated[
    SecretStr, Field(min_length=1, max_length=128), AfterValidator(_encodable)
]


class Registration(_Input):
    username: Username
    email: Email
    phone: Phone
    organisation: Line
    purpose: Prose
    password: NewPassword


class ProfileChange(_Input):
    email: Email | None = None
    phone: Phone | None = None
    organisation: Line | None = None


class PasswordChange(_Input):
    current_password: GivenPassword
    new_password: NewPassword


class Reason(_Input):
    reason: Prose


class Credentials(_Input):
    username: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_LINE)]
    password: GivenPassword


class Refresh(_Input):
    refresh_token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,256}$")]


class NewSshKey(_Input):
    name: Line
    public_key: Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


# An AMQP topic pattern of event types.
FactPattern = Annotated[
    str,
    StringConstraints(
        max_length=120, pattern=r"^(\*|#|[a-z][a-z0-9_]*)(\.(\*|#|[a-z0-9_]+)){0,5}$"
    ),
]


class NewSubscriber(_Input):
    """name: of the program; its login and its queue are `outside.<name>`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,39}$")]
    patterns: Annotated[list[FactPattern], Field(min_length=1, max_length=20)]


class ServiceCredentials(_Input):
    service: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    secret: Annotated[SecretStr, Field(min_length=1, max_length=512), AfterValidator(_encodable)]


class AccountView(BaseModel):
    id: UUID
    username: str
    email: str
    phone: str
    organisation: str
    purpose: str
    role: Role
    status: AccountStatus
    status_reason: str
    created_at: datetime

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls.model_validate(account, from_attributes=True)


class TokensView(BaseModel):
    """expires_in: seconds until the access token ends."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    refresh_token: str
    account: AccountView

    @classmethod
    def of(cls, granted: Granted) -> Self:
        return cls(
            access_token=granted.access_token,
            token_type="bearer",  # noqa: S106 - RFC 6750's word
            expires_in=granted.expires_in_s,
            refresh_token=granted.refresh_token,
            account=AccountView.of(granted.account),
        )


class SessionView(BaseModel):
    """current: the one that asks."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    current: bool

    @classmethod
    def of(cls, login: LoginSession, current: UUID | None) -> Self:
        return cls(
            id=login.id,
            created_at=login.created_at,
            last_used_at=login.last_used_at,
            expires_at=login.expires_at,
            address=login.address,
            user_agent=login.user_agent,
            current=login.id == current,
        )


class SshKeyView(BaseModel):
    id: UUID
    name: str
    public_key: str
    fingerprint: str
    created_at: datetime

    @classmethod
    def of(cls, key: SshKey) -> Self:
        return cls.model_validate(key, from_attributes=True)


class AuditView(BaseModel):
    id: UUID
    at: datetime
    actor_id: UUID | None
    type: str
    subject: str
    data: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls.model_validate(entry, from_attributes=True)


class ServiceTokenView(BaseModel):
    access_token: str
    expires_in: int


class IdentityView(BaseModel):
    account_id: UUID
    username: str
    role: Role
    status: AccountStatus


class KnownAccountView(IdentityView):
    """ssh_keys: lines for an authorized_keys file."""

    ssh_keys: list[str]


class LivenessView(BaseModel):
    """live: the login has neither ended nor run out."""

    live: bool


class SubscriberView(BaseModel):
    """state: wanted until the broker knows it, then standing; dismissed until the broker has
    forgotten it. trouble: why that has not been done yet."""

    id: UUID
    name: str
    login: str
    queue: str
    patterns: list[str]
    state: SubscriberState
    trouble: str
    created_at: datetime

    @classmethod
    def of(cls, subscriber: OutsideSubscriber) -> Self:
        login = login_of(subscriber.name)
        return cls(
            id=subscriber.id,
            name=subscriber.name,
            login=login,
            queue=login,
            patterns=subscriber.patterns,
            state=subscriber.status,
            trouble=subscriber.trouble,
            created_at=subscriber.created_at,
        )


class SubscriberLoginView(SubscriberView):
    """url: the whole address with login and password; empty where auth was not told of it."""

    password: str
    url: str

    @classmethod
    def with_login(cls, view: SubscriberView, key: SigningKey, broker_url: str) -> Self:
        password = password_of(view.id, key.outside_key)
        scheme, found, rest = broker_url.partition("://")
        url = f"{scheme}://{view.login}:{password}@{rest}" if found else ""
        return cls(**view.model_dump(), password=password, url=url)
