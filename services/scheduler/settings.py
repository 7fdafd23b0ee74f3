"""What the scheduler must be told."""

from pathlib import Path

from pydantic import SecretStr

from shared.settings import ServiceSettings


class SchedulerSettings(ServiceSettings):
    """market_url, registry_url: `unix:/path/to.sock` or `http://host:port`.
    start_timeout_s: a start without any progress for so long has failed.
    silent_after_s, lost_after_s: a node that says nothing for so long is silent, then lost.
    contact_s: how often that is looked at.
    breaker_share, breaker_least: when more than this share of at least so many nodes, heard within
    breaker_window_s, are silent at once, none is declared lost.
    lease_max_s: an order lets an instance run so long without another one, however far its owner's
    money reaches.
    retention_s: a stopped instance is released after it.
    reservation_lives_s: what was reserved for a request that never came back is given back then.
    resend_s: all orders are told again this often; retell_s: those that a node does not follow.
    usage_proof_s: how often a node's running instances are proven for billing.

    Of hosts that join:
    public_url: the platform's own address, as agents reach it.
    broker_admin_url: `http://USER:PASSWORD@HOST:15672`; None: one process, no host can join.
    broker_public_url: what agents are told, without a login: `amqps://HOST:5671/chusuan`.
    registry_public_address: `HOST:PORT` of the image registry, as agents reach it.
    ca_file: PEM of what signed the platform's certificates, where agents do not know it.
    """

    # Reports, orders and requests side by side.
    database_pool_size: int = 16

    market_url: str = "http://market:8000"
    registry_url: str = "http://registry:8000"
    start_timeout_s: float = 900.0
    silent_after_s: float = 12.0
    lost_after_s: float = 45.0
    contact_s: float = 1.0
    breaker_share: float = 0.5
    breaker_least: int = 4
    breaker_window_s: float = 600.0
    lease_max_s: float = 7 * 86400.0
    retention_s: float = 15 * 86400.0
    reservation_lives_s: float = 300.0
    resend_s: float = 30.0
    retell_s: float = 5.0
    sweep_s: float = 5.0
    usage_proof_s: float = 30.0
    cpu_mode_cores: float = 0.5
    cpu_mode_memory_bytes: int = 2 << 30

    public_url: str = "http://127.0.0.1:8080"
    broker_admin_url: SecretStr | None = None
    broker_public_url: str = ""
    registry_public_address: str = ""
    ca_file: Path | None = None
