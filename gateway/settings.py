"""What the gateway must be told."""

import os
from ipaddress import ip_network

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.origins import check_apps_url

SOCKET_MESSAGE_BYTES = 64 << 20


class GatewaySettings(BaseSettings):
    """Each may also stand in a file `chusuan_gateway_<field>` of the folder that
    CHUSUAN_SECRETS_DIR names.

    upstreams: service name → `unix:/path/to.sock` or `http://host:port`.
    service_secret: proves to auth who the gateway is.
    trusted_proxies: addresses or networks, separated by commas, whose X-Forwarded-For and
    X-Forwarded-Proto are believed. Empty: a client is whoever connects.
    requests_per_minute: for one account, or one address of callers without a token.
    json_body_bytes: the most that a request body may have, file contents and apps excepted.
    apps_url: where browsers reach the apps of instances, on another registrable domain than the
    platform: `https://apps.example.net`, or one host for each instance,
    `https://{instance}.apps.example.net`. Empty: the gateway's own host (README.md says at what
    cost).
    app_idle_timeout_s: how long an app may be silent within one answer.
    metrics_address: HOST:PORT where Prometheus alone reaches it; empty: nowhere.
    app_recheck_s: how old the scheduler's word may be on whose an instance is, and whether it runs.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix="CHUSUAN_GATEWAY_",
        secrets_dir=os.environ.get("CHUSUAN_SECRETS_DIR"),
    )

    upstreams: dict[str, str]
    service_secret: SecretStr
    redis_url: str = "memory://chusuan"
    trusted_proxies: str = ""
    requests_per_minute: int = 6000
    json_body_bytes: int = 1 << 20
    idle_timeout_s: float = 60.0
    apps_url: str = ""
    app_idle_timeout_s: float = 900.0
    app_recheck_s: float = 3.0
    metrics_address: str = ""
    log_level: str = "INFO"

    @field_validator("apps_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        return check_apps_url(url)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: str) -> str:
        for proxy in filter(None, (words.strip() for words in proxies.split(","))):
            ip_network(proxy)  # ValueError says what is wrong with it
        return proxies
