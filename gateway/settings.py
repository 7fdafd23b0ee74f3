"""What the gateway must be told."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """upstreams: service name → `unix:/path/to.sock` or `http://host:port`.
    requests_per_minute: for one account, or one address of callers without a token.
    json_body_bytes: the most that a request body may have, file contents excepted.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="CHUSUAN_GATEWAY_")

    upstreams: dict[str, str]
    redis_url: str = "memory://chusuan"
    requests_per_minute: int = 6000
    json_body_bytes: int = 1 << 20
    idle_timeout_s: float = 60.0
    log_level: str = "INFO"
