"""What storage must be told."""

from pathlib import Path

from shared.settings import ServiceSettings

GIB = 1 << 30


class StorageSettings(ServiceSettings):
    """root: holds `volumes/<account id>/{files,uploads}`; GPU hosts mount the same folder.
    scan_interval_s: how often real sizes are counted anew, since containers write too.
    """

    root: Path
    default_quota_bytes: int = 20 * GIB
    default_quota_files: int = 1_000_000
    scan_interval_s: float = 60.0
