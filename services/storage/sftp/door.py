"""The door itself: listens, counts who is in, shows people out, and closes."""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncssh
import structlog

from services.storage.clients.auth import AuthClient, KnownAccount
from services.storage.quota import Volumes
from services.storage.settings import StorageSettings
from services.storage.sftp.entrance import Entrance
from services.storage.sftp.protocol import BoundedHandler, Channel, Reader, Writer
from services.storage.sftp.session import NetDiskSession
from shared.bus import Keeping, Subscription
from shared.errors import Unavailable
from shared.events import Envelope
from shared.events.auth import AccountDisabled
from shared.ids import new_id

log = structlog.get_logger(__name__)

CLOSING_LASTS_S = 10
THREADS = 16

# asyncssh's defaults without SHA-1, short MACs and keys, vendors' dialects and GSS. Strict key
# exchange (against Terrapin) is asyncssh's own and always on.
KEX_ALGORITHMS = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp521",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)
ENCRYPTION_ALGORITHMS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
MAC_ALGORITHMS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
SIGNATURE_ALGORITHMS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp521",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp256",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """What users are told; fingerprint: of the host key, `SHA256:…`."""

    address: str
    port: int
    fingerprint: str


class SftpDoor:
    def __init__(self, settings: StorageSettings, volumes: Volumes, auth: AuthClient) -> None:
        self.auth = auth
        self.tries = settings.sftp_auth_tries
        self._settings = settings
        self._volumes = volumes
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sftp")
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._fingerprint = ""
        self._address_of: dict[Entrance, str] = {}
        self._at_address: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Raises OSError that names the settings when it cannot listen there."""
        # It tells of every client at INFO, in the clients' own words.
        logging.getLogger("asyncssh").setLevel(logging.WARNING)
        settings = self._settings
        key = await asyncio.to_thread(load_host_key, settings.sftp_host_key_file)
        self._fingerprint = key.get_fingerprint("sha256")
        try:
            self._acceptor = await asyncssh.listen(
                settings.sftp_address,
                settings.sftp_port or 0,
                config=[],
                server_factory=lambda: Entrance(self),
                server_host_keys=[key],
                server_version="Chusuan",
                encoding=None,
                login_timeout=settings.sftp_login_timeout_s,
                kex_algs=KEX_ALGORITHMS,
                encryption_algs=ENCRYPTION_ALGORITHMS,
                mac_algs=MAC_ALGORITHMS,
                signature_algs=SIGNATURE_ALGORITHMS,
                compression_algs=None,
                host_based_auth=False,
                kbdint_auth=False,
                gss_host=None,
                allow_pty=False,
                agent_forwarding=False,
                x11_forwarding=False,
                allow_scp=False,
                keepalive_interval=30,
                keepalive_count_max=4,
            )
        except OSError as error:
            where = f"{settings.sftp_address}:{settings.sftp_port}"
            raise OSError(
                error.errno,
                f"SFTP cannot listen on {where} ({os.strerror(error.errno or 0)}); "
                "choose another sftp_address or sftp_port",
            ) from error
        log.info("sftp_open", address=settings.sftp_address, port=self.port)

    @property
    def port(self) -> int:
        """Where it listens; of use when the setting is 0."""
        assert self._acceptor is not None  # noqa: S101 - asked only of an open door
        return self._acceptor.get_port()

    @property
    def public(self) -> PublicAddress:
        settings = self._settings
        address = settings.sftp_public_address or settings.sftp_address
        return PublicAddress(address, settings.sftp_public_port or self.port, self._fingerprint)

    async def close(self) -> None:
        """Nobody comes in, everybody is shown out, and what they had open is on disk."""
        if self._acceptor is not None:
            self._acceptor.close()
        for entrance in list(self._address_of):
            entrance.end(asyncssh.DISC_BY_APPLICATION, "The platform is stopping")
        if self._serving:
            await asyncio.wait(self._serving, timeout=CLOSING_LASTS_S)
        self._threads.shutdown(wait=False)

    def arrive(self, entrance: Entrance, address: str) -> bool:
        settings = self._settings
        if (
            len(self._address_of) >= settings.sftp_connections
            or self._at_address[address] >= settings.sftp_connections_per_address
        ):
            return False
        self._address_of[entrance] = address
        self._at_address[address] += 1
        return True

    def enter(self, entrance: Entrance, account: KnownAccount) -> bool:
        inside = sum(1 for _ in self._of(account.account_id))
        return inside < self._settings.sftp_connections_per_user

    def leave(self, entrance: Entrance) -> None:
        address = self._address_of.pop(entrance, None)
        if address is not None:
            self._at_address[address] -= 1
            if not self._at_address[address]:
                del self._at_address[address]

    def _of(self, account_id: UUID) -> list[Entrance]:
        return [e for e in self._address_of if e.account and e.account.account_id == account_id]

    async def serve(
        self, entrance: Entrance, channel: Channel, reader: Reader, writer: Writer
    ) -> None:
        account = entrance.account
        assert account is not None  # noqa: S101 - only those who entered may ask for a session
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of asyncssh's task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        limit = self._settings.sftp_open_files
        session = NetDiskSession(
            channel,
            account=account,
            volumes=self._volumes,
            threads=self._threads,
            open_limit=limit,
        )
        entrance.sessions.add(session)
        try:
            await self._volumes.create(account.account_id)
            await BoundedHandler(session, reader, writer, open_limit=limit).run()
        finally:
            await session.finish()
            entrance.sessions.discard(session)

    def show_out(self, account_id: UUID) -> None:
        for entrance in self._of(account_id):
            log.info("sftp_shown_out", account_id=str(account_id))
            entrance.end(asyncssh.DISC_BY_APPLICATION, "This account is disabled")

    def disablings(self, queue: str) -> Subscription:
        """Every copy hears all of them, since nobody knows where an account is in; queue: this
        copy's own. Nothing is remembered of them, as `check_accounts` finds what was missed."""

        async def show_out(event: Envelope) -> None:
            self.show_out(AccountDisabled.model_validate(event.data).account_id)

        return Subscription(queue, (AccountDisabled.type,), show_out, keeping=Keeping.nothing)

    async def check_accounts(self) -> None:
        """Events are hints: whoever is in is asked about now and then. With auth away they stay."""
        inside = {e.account.username: e.account for e in self._address_of if e.account}
        for username, account in inside.items():
            try:
                known = await self.auth.find(username)
            except Unavailable:
                return
            if known is None or not known.is_active:
                self.show_out(account.account_id)


def load_host_key(path: Path) -> asyncssh.SSHKey:
    """Ed25519, made at the first start with mode 0600; whoever is first wins."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = asyncssh.generate_private_key("ssh-ed25519", comment="chusuan sftp")
        # Not the process id: in containers every copy has the same.
        partial = path.with_name(f"{path.name}.{new_id().hex}")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(made.export_private_key())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)
        finally:
            partial.unlink()
    return asyncssh.read_private_key(str(path))
