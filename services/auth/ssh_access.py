"""SSH public keys of accounts: only plain public keys of kinds that are still sound."""

from dataclasses import dataclass
from uuid import UUID

import asyncssh
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth import repository
from services.auth.domain.account import AccountState
from services.auth.errors import BadSshKey, SshKeyTaken, TooManySshKeys
from services.auth.models import SshKey
from shared.clock import utc_now
from shared.errors import Forbidden
from shared.events.auth import SshKeyAdded, SshKeyRemoved
from shared.ids import new_id
from shared.outbox import emit
from shared.text import Text

KEYS_LIMIT = 50
RSA_BITS_LEAST = 2048
KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

_PRIVATE = Text(
    "这是私钥，请立即作废并更换；此处只接受公钥（.pub 文件的内容）。",
    "This is a private key: treat it as leaked. Paste the public key (the .pub file).",
)
_SHAPE = Text(
    "应为一行公钥：类型、base64 内容、可选注释，前面不能有选项。",
    "One line is needed: type, base64 and an optional comment, with no options before them.",
)
_TYPE = Text(
    "不支持此类型，请使用 ed25519、ecdsa 或 2048 位以上的 rsa。",
    "This kind is not supported. Use ed25519, ecdsa, or rsa of 2048 bits or more.",
)


@dataclass(frozen=True, slots=True)
class ParsedKey:
    line: str
    fingerprint: str


def parse_public_key(given: str) -> ParsedKey:
    """Raises BadSshKey. line: `type base64`; fingerprint: `SHA256:…` as ssh-keygen shows it."""
    line = given.strip()
    if "PRIVATE KEY" in line:
        raise BadSshKey(field="public_key", reason=_PRIVATE)
    words = line.split(" ", 2)
    if len(line.splitlines()) != 1 or len(words) < 2:
        raise BadSshKey(field="public_key", reason=_SHAPE)
    if words[0] not in KEY_TYPES:
        looks_like_key = words[0].startswith(("ssh-", "ecdsa-", "sk-"))
        raise BadSshKey(field="public_key", reason=_TYPE if looks_like_key else _SHAPE)
    plain = f"{words[0]} {words[1]}"
    try:
        key = asyncssh.import_public_key(plain)
        kind = key.get_algorithm()
    except (asyncssh.KeyImportError, ValueError) as error:
        raise BadSshKey(field="public_key", reason=_SHAPE) from error
    if kind != words[0] or _is_weak(key):
        raise BadSshKey(field="public_key", reason=_TYPE)
    return ParsedKey(plain, key.get_fingerprint("sha256"))


def _is_weak(key: asyncssh.SSHKey) -> bool:
    public = key.pyca_key
    return isinstance(public, RSAPublicKey) and public.key_size < RSA_BITS_LEAST


async def add_ssh_key(
    session: AsyncSession, account_id: UUID, *, name: str, public_key: str
) -> SshKey:
    """Raises BadSshKey, SshKeyTaken, TooManySshKeys."""
    parsed = parse_public_key(public_key)
    account = await repository.get_account(session, account_id, lock=True)
    if account.state is not AccountState.active:
        raise Forbidden
    present = await repository.all_ssh_keys(session, account_id)
    if any(key.fingerprint == parsed.fingerprint for key in present):
        raise SshKeyTaken(field="public_key")
    if len(present) >= KEYS_LIMIT:
        raise TooManySshKeys(limit=KEYS_LIMIT)
    key = SshKey(
        id=new_id(),
        account_id=account_id,
        name=name,
        public_key=parsed.line,
        fingerprint=parsed.fingerprint,
        created_at=utc_now(),
    )
    session.add(key)
    await session.flush()
    added = SshKeyAdded(
        key_id=key.id, account_id=account_id, public_key=authorized_line(key, account.username)
    )
    await emit(session, added, subject=key.id, sequence=1, actor=account_id)
    return key


async def remove_ssh_key(session: AsyncSession, account_id: UUID, key_id: UUID) -> None:
    """Raises NotFound."""
    await repository.delete_ssh_key(session, key_id, account_id)
    removed = SshKeyRemoved(key_id=key_id, account_id=account_id)
    await emit(session, removed, subject=key_id, sequence=2, actor=account_id)


def authorized_line(key: SshKey, username: str) -> str:
    """The comment is ours: what people write there never reaches an authorized_keys file."""
    return f"{key.public_key} {username}"
