"""What storage must be told."""

from pathlib import Path

from shared.settings import ServiceSettings

GIB = 1 << 30


class StorageSettings(ServiceSettings):
    """root: holds `volumes/<account id>/{files,uploads}`; GPU hosts mount the same folder.
    scan_interval_s: how often real sizes are counted anew, since containers write too.
    sftp_address, sftp_port: where the SFTP door listens; without a port there is none, 0 lets the
    system choose.
    sftp_public_address, sftp_public_port: what users are told, where it differs.
    sftp_auth_tries: offers of keys and passwords on one connection.
    sftp_open_files: files and folders that one session may have open.
    sftp_check_s: how often accounts that are in are asked about, besides the event.
    """

    root: Path
    default_quota_bytes: int = 20 * GIB
    default_quota_files: int = 1_000_000
    scan_interval_s: float = 60.0
    sftp_address: str = "127.0.0.1"
    sftp_port: int | None = None
    sftp_public_address: str | None = None
    sftp_public_port: int | None = None
    sftp_login_timeout_s: float = 60.0
    sftp_auth_tries: int = 20
    sftp_connections: int = 200
    sftp_connections_per_address: int = 50
    sftp_connections_per_user: int = 10
    sftp_open_files: int = 64
    sftp_check_s: float = 60.0

    @property
    def sftp_host_key_file(self) -> Path:
        return self.root / "sftp" / "ssh_host_ed25519_key"
