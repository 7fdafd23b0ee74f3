"""What the image centre must be told."""

from pathlib import Path

from shared.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    """recipes: folder of system image recipes; None leaves the known system images as they are.
    save_timeout_s: a save that has not ended for so long has failed.
    build_silence_s: a system image of which no builder says anything for so long has failed.
    resend_s: builders are told again this often what should be there.
    forget_deleted_s: for so long hosts are told to drop a deleted image.
    """

    recipes: Path | None = None
    save_timeout_s: float = 6 * 3600.0
    build_silence_s: float = 1800.0
    resend_s: float = 5.0
    sweep_s: float = 5.0
    forget_deleted_s: float = 30 * 86400.0
