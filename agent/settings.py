"""What the agent must be told."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AgentSettings(BaseSettings):
    """docker_host: `unix:///path` or `tcp://…`; empty: where Docker usually listens.
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

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="CHUSUAN_AGENT_")

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
