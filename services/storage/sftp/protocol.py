"""asyncssh's SFTP protocol, bounded: answers wait until the client takes them, so that a client
that only asks fills no memory, and folders are closed with their handles.

Requests of a session are done one after another, as asyncssh does them.
"""

import contextlib
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.constants import FXP_OPENDIR
from asyncssh.packet import SSHPacket
from asyncssh.sftp import MAX_SFTP_PACKET_LEN, MIN_SFTP_VERSION, SFTPLimits, SFTPServerHandler
from asyncssh.stream import SSHReader, SSHServerStreamSession, SSHWriter

from services.storage.sftp.open_file import READ_BYTES
from services.storage.sftp.session import NetDiskSession

Reader = SSHReader[bytes]
Writer = SSHWriter[bytes]
Channel = asyncssh.SSHServerChannel[bytes]

# Links are refused, and holes need not be asked for.
_DROPPED: frozenset[int | bytes] = frozenset({b"hardlink@openssh.com", b"ranges@asyncssh.com"})


class BoundedHandler(SFTPServerHandler):
    _extensions = [  # noqa: RUF012 - asyncssh's own attribute
        pair for pair in SFTPServerHandler._extensions if pair[0] not in _DROPPED
    ]

    def __init__(
        self, files: NetDiskSession, reader: Reader, writer: Writer, *, open_limit: int
    ) -> None:
        super().__init__(files, reader, writer, MIN_SFTP_VERSION)
        self._netdisk = files
        self._replies = writer
        self._open_limit = open_limit

    async def _process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        await self._replies.drain()
        await super()._process_packet(pkttype, pktid, packet)

    async def _open_folder(self, packet: SSHPacket) -> bytes:
        path = packet.get_string()
        packet.check_end()
        names = await self._netdisk.list_folder(path)
        handle = self._get_next_handle()
        self._dir_handles[handle] = names
        return handle

    async def _limits(self, packet: SSHPacket) -> SFTPLimits:
        packet.check_end()
        return SFTPLimits(MAX_SFTP_PACKET_LEN, READ_BYTES, READ_BYTES, self._open_limit)

    async def _cleanup(self, exc: Exception | None) -> None:
        # First: asyncssh's own stops at the first file that cannot be closed.
        await self._netdisk.finish()
        if exc is None and not self._replies.is_closing():
            # scp takes an end without a status for a failure.
            with contextlib.suppress(OSError):
                self._netdisk.channel.exit(0)
        await super()._cleanup(exc)

    # asyncssh types the functions by their base class.
    _packet_handlers: dict[Any, Any] = {  # noqa: RUF012 - asyncssh's own attribute
        **{k: v for k, v in SFTPServerHandler._packet_handlers.items() if k not in _DROPPED},
        FXP_OPENDIR: _open_folder,
        b"limits@openssh.com": _limits,
    }


class Serve(Protocol):
    async def __call__(self, channel: Channel, reader: Reader, writer: Writer) -> None: ...


class SftpOnly(SSHServerStreamSession[bytes]):
    """A channel on which the sftp subsystem can be had, and nothing else."""

    def __init__(self, serve: Serve) -> None:
        super().__init__(None)
        self._serve = serve
        self._channel: Channel | None = None

    def connection_made(self, chan: SSHChannel[bytes]) -> None:
        super().connection_made(chan)
        self._channel = cast(Channel, chan)

    def pty_requested(self, *_: object) -> bool:
        return False

    def shell_requested(self) -> bool:
        return False

    def exec_requested(self, command: str) -> bool:
        return False

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        channel = self._channel
        assert channel is not None  # noqa: S101 - asyncssh calls connection_made first
        work = self._serve(channel, Reader(self, channel), Writer(self, channel))
        channel.get_connection().create_task(work)
