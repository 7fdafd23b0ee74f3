"""What the image centre must be told."""

from pathlib import Path

from pydantic import SecretStr

from shared.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    """recipes: folder of system image recipes; None leaves the known system images as they are.
    save_timeout_s: a save that has not ended for so long has failed.
    build_silence_s: a system image of which no builder says anything for so long has failed.
    resend_s: builders are told again this often what should be there.
    forget_deleted_s: for so long hosts are told to drop a deleted image.
    oci_address: HOST:PORT of the OCI registry, as hosts call it; empty: images stay on their hosts.
    oci_url: where this service reaches it, past the door that hosts come through; empty: what is
    deleted keeps its bytes there. oci_credentials: `user:password`, where it asks for them.
    builder_lapses_s: an image goes to another builder when its own says nothing for so long.
    login_known_s: a host's password counts for so long without asking the scheduler again.
    """

    scheduler_url: str = "http://scheduler:8000"
    oci_address: str = ""
    oci_url: str = ""
    oci_credentials: SecretStr | None = None
    builder_lapses_s: float = 60.0
    login_known_s: float = 60.0
    purge_s: float = 60.0

    recipes: Path | None = None
    save_timeout_s: float = 6 * 3600.0
    build_silence_s: float = 1800.0
    resend_s: float = 5.0
    sweep_s: float = 5.0
    forget_deleted_s: float = 30 * 86400.0
