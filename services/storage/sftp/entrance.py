"""One connection to the door: who it is, and that it gets files and nothing else.

A key opens only the account whose name the client gave, and only when its signature was checked;
what an earlier offer on the same connection showed proves nothing.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Protocol

import asyncssh
import structlog

from services.storage.clients.auth import AuthClient, KnownAccount
from services.storage.sftp.answers import both
from services.storage.sftp.protocol import Channel, Reader, SftpOnly, Writer
from services.storage.sftp.session import NetDiskSession
from shared.errors import Unavailable
from shared.text import Text

log = structlog.get_logger(__name__)

# Names of auth are narrower; no other shape is asked for, since it becomes part of a path.
_USERNAME = re.compile(r"[a-z][a-z0-9_-]{1,63}")
PASSWORD_LIMIT = 128
# Finding out who somebody is takes at least so long, whether they exist or not.
LOOKUP_LASTS_S = 0.1
SESSIONS_LIMIT = 10

AWAY = Text("暂时无法登录，请稍后重试。", "Login is not possible right now. Try again shortly.")
NOT_ACTIVE = Text(
    "账号尚未通过审核或已停用，请在控制台查看。",
    "This account is not approved, or is disabled. The console says which.",
)
TOO_MANY_TRIES = Text("尝试次数过多。", "Too many tries.")
TOO_MANY_CONNECTIONS = Text(
    "您的连接过多，请先断开一些。", "You have too many connections. Close some of them first."
)


class Door(Protocol):
    auth: AuthClient
    tries: int

    def arrive(self, entrance: "Entrance", address: str) -> bool:
        """False when there are too many connections."""
        ...

    def enter(self, entrance: "Entrance", account: KnownAccount) -> bool:
        """False when the account has too many connections."""
        ...

    def leave(self, entrance: "Entrance") -> None: ...

    async def serve(
        self, entrance: "Entrance", channel: Channel, reader: Reader, writer: Writer
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class _Lookup:
    username: str
    account: KnownAccount | None


class Entrance(asyncssh.SSHServer):
    def __init__(self, door: Door) -> None:
        self._door = door
        self._connection: asyncssh.SSHServerConnection | None = None
        self._tries = 0
        self._lookup: _Lookup | None = None
        self._by_password: KnownAccount | None = None
        self.account: KnownAccount | None = None
        self.sessions: set[NetDiskSession] = set()

    @property
    def connection(self) -> asyncssh.SSHServerConnection:
        assert self._connection is not None  # noqa: S101 - asyncssh calls connection_made first
        return self._connection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        address = str(conn.get_extra_info("peername", ("",))[0])
        if not self._door.arrive(self, address):
            log.warning("sftp_connection_refused", address=address)
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for session in self.sessions:
            session.end()
        self._door.leave(self)

    def end(self, code: int, reason: str) -> None:
        for session in self.sessions:
            session.end()
        self.connection.disconnect(code, reason)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return False

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Asked for an offer and again with the signature, which asyncssh checks after this."""
        self._count_try()
        account = await self._find(username)
        if account is None or not account.is_active:
            return False
        return any(_is_same(line, key) for line in account.ssh_keys)

    async def validate_password(self, username: str, password: str) -> bool:
        self._count_try()
        self._by_password = None
        if not _USERNAME.fullmatch(username) or not 0 < len(password) <= PASSWORD_LIMIT:
            await asyncio.sleep(LOOKUP_LASTS_S)
            return False
        try:
            account = await self._door.auth.check_password(username, password)
        except Unavailable:
            self._say(AWAY)
            return False
        if account is None:
            return False
        if not account.is_active:
            self._say(NOT_ACTIVE)
            return False
        self._by_password = account
        return True

    async def auth_completed(self) -> None:
        username = self.connection.get_extra_info("username")
        known = (self._by_password, self._lookup.account if self._lookup else None)
        account = next((a for a in known if a is not None and a.username == username), None)
        if account is None:
            self.end(asyncssh.DISC_ILLEGAL_USER_NAME, "Unknown account")
        elif not self._door.enter(self, account):
            self.end(asyncssh.DISC_TOO_MANY_CONNECTIONS, both(TOO_MANY_CONNECTIONS))
        else:
            self.account = account
            log.info("sftp_entered", account_id=str(account.account_id))

    def session_requested(self) -> SftpOnly | bool:
        if self.account is None or len(self.sessions) >= SESSIONS_LIMIT:
            return False

        async def serve(channel: Channel, reader: Reader, writer: Writer) -> None:
            await self._door.serve(self, channel, reader, writer)

        return SftpOnly(serve)

    def _count_try(self) -> None:
        self._tries += 1
        if self._tries > self._door.tries:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, both(TOO_MANY_TRIES)
            )

    async def _find(self, username: str) -> KnownAccount | None:
        """Once for a name and connection: further keys are compared with the same answer."""
        if self._lookup is not None and self._lookup.username == username:
            return self._lookup.account
        account = None
        try:
            if _USERNAME.fullmatch(username):
                account, _ = await asyncio.gather(
                    self._door.auth.find(username), asyncio.sleep(LOOKUP_LASTS_S)
                )
            else:
                await asyncio.sleep(LOOKUP_LASTS_S)
        except Unavailable:
            self._say(AWAY)
            return None
        self._lookup = _Lookup(username, account)
        return account

    def _say(self, words: Text) -> None:
        if not self.connection.is_closed():
            self.connection.send_auth_banner(f"{both(words)}\r\n")


def _is_same(line: str, key: asyncssh.SSHKey) -> bool:
    try:
        return asyncssh.import_public_key(line) == key
    except asyncssh.KeyImportError:
        return False
