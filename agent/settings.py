"""What the agent must be told."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, StringConstraints, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._/-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class AgentSettings(BaseSettings):
    """Each may also stand in a file `chusuan_agent_<field>` of the folder that CHUSUAN_SECRETS_DIR
    names.

    join: a token of `chusuan nodes invite`; used once, then the stored credential counts.
    name: of this host, where no nodes file gives one; empty: its host name. node: which of several
    declared nodes this agent is; an agent with a credential is exactly one.
    labels: `key=value,key=value`, for those who look at hosts.
    docker_certs: where Docker looks for the CA of a registry.
    docker_host: `unix:///path` or `tcp://…`; empty: where Docker usually listens.
    state_dir: journals, node ids and data disks; survives a reboot.
    run_dir: tmpfs, holds what containers read at start, secrets included.
    netdisk_root: the mounted net disk, `volumes/<id>/files` and `public` in it.
    nodes_file: declares simulated hosts; hardware found by NVML goes before it.
    address: where users reach published ports; app_address: where the gateway does.
    publish_address: the host address that SSH ports are bound to; app_publish_address: the one
    for apps, which the gateway alone reaches.
    deny_private_egress: containers may open no connection to private networks. Off by default,
    because image and package registries often live there.
    metrics_port: on the loopback, for a collector on this host; None: the agent listens on nothing.
    recipes: folder of image recipes; None: this host builds none.
    base_image: Debian 12, as a registry calls it; made from packages where none answers.
    build_network: Docker's network mode of builds: `default`, or `host` where only the host itself
    reaches package servers.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix="CHUSUAN_AGENT_",
        secrets_dir=os.environ.get("CHUSUAN_SECRETS_DIR"),
    )

    join: SecretStr | None = None
    name: str = ""
    node: str = ""
    labels: Annotated[dict[LabelKey, LabelValue], NoDecode] = {}
    docker_certs: Path = Path("/etc/docker/certs.d")
    bus_url: str = "memory://chusuan"
    docker_host: str = ""
    state_dir: Path = Path("/var/lib/chusuan/agent")
    run_dir: Path = Path("/run/chusuan")
    netdisk_root: Path = Path("/var/lib/chusuan/netdisk")
    nodes_file: Path | None = None
    address: str = "127.0.0.1"
    app_address: str = "127.0.0.1"
    publish_address: str = "0.0.0.0"  # noqa: S104  users reach their containers from outside
    app_publish_address: str = "127.0.0.1"
    region: str = "default"
    port_first: int = 22000
    port_last: int = 22999
    heartbeat_s: float = 5.0
    stop_grace_s: int = 10
    ready_timeout_s: float = 120.0
    tombstone_s: float = 86400.0
    network: str = "chusuan"
    bridge: str = "chusuan0"
    firewall: bool = True
    deny_private_egress: bool = False
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    recipes: Path | None = None
    base_image: str = "debian:bookworm-slim"
    build_network: str = "default"
    log_level: str = "INFO"

    @field_validator("labels", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Raises ValueError for a word without `=`."""
        if not isinstance(value, str):
            return value
        pairs = [word.strip().partition("=") for word in value.split(",") if word.strip()]
        if bad := [key for key, sign, _ in pairs if not sign]:
            raise ValueError(f"{bad[0]!r} is no label: key=value")
        return {key: words for key, _, words in pairs}
