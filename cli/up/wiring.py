"""What each part of the embedded platform is told: where the others are, and its secrets.

The rooms do not know that they share a process: they get URLs, as in the split shape.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp

from agent.settings import AgentSettings
from cli.up.home import SERVICES, Home
from gateway.main import create_app as create_gateway
from gateway.settings import GatewaySettings
from services.auth.main import create_app as create_auth
from services.auth.settings import AuthSettings
from services.market.main import create_app as create_market
from services.market.settings import MarketSettings
from services.registry.main import create_app as create_registry
from services.registry.settings import RegistrySettings
from services.scheduler.main import create_app as create_scheduler
from services.scheduler.settings import SchedulerSettings
from services.storage.main import create_app as create_storage
from services.storage.settings import StorageSettings

BUS = REDIS = "memory://chusuan"
DEPLOY = Path(__file__).parents[2] / "deploy"


@dataclass(frozen=True, slots=True)
class PlatformOptions:
    """address: where users reach the gateway, SFTP and their instances. port_first, port_last:
    what instances may publish. nodes_file: simulated hosts where the machine has no GPU.
    recipes: of the system images, a folder each. apps_url: where browsers reach the apps of
    instances, on a domain of their own; empty: at the gateway itself.
    metrics_address: HOST:PORT where Prometheus reads all of it; empty: nowhere."""

    home: Home
    address: str = "127.0.0.1"
    port: int = 8080
    sftp_port: int = 2022
    port_first: int = 22000
    port_last: int = 22999
    nodes_file: Path = DEPLOY / "nodes.toml"
    recipes: Path = DEPLOY / "images"
    apps_url: str = ""
    metrics_address: str = ""


class Wiring:
    """database_url: of a service, by its name."""

    def __init__(self, options: PlatformOptions, database_url: Callable[[str], str]) -> None:
        self._options = options
        self._home = options.home
        self._database_url = database_url

    def services(self) -> Mapping[str, FastAPI]:
        """In the order in which they start: the others ask auth."""
        return {
            "auth": create_auth(self._auth()),
            "storage": create_storage(self._storage()),
            "registry": create_registry(self._registry()),
            "market": create_market(self._market()),
            "scheduler": create_scheduler(self._scheduler()),
        }

    def gateway(self) -> ASGIApp:
        return create_gateway(
            GatewaySettings(
                upstreams={service: self._url(service) for service in SERVICES},
                redis_url=REDIS,
                service_secret=self._secret("gateway"),
                apps_url=self._options.apps_url,
                metrics_address=self._options.metrics_address,
            )
        )

    def agent(self) -> AgentSettings:
        options, home = self._options, self._home
        return AgentSettings(
            bus_url=BUS,
            state_dir=home.agent,
            run_dir=home.run,
            netdisk_root=home.storage,
            nodes_file=options.nodes_file,
            recipes=options.recipes,
            address=options.address,
            publish_address=options.address,
            port_first=options.port_first,
            port_last=options.port_last,
        )

    def _auth(self) -> AuthSettings:
        home = self._home
        return AuthSettings(
            **self._shared("auth"),
            signing_key_file=home.secrets / "signing-key.pem",
            first_operator_password_file=home.operator_password,
            service_secrets={name: self._secret(name) for name in (*SERVICES, "gateway")},
        )

    def _storage(self) -> StorageSettings:
        options = self._options
        return StorageSettings(
            **self._shared("storage"),
            root=self._home.storage,
            sftp_address=options.address,
            sftp_port=options.sftp_port,
        )

    def _registry(self) -> RegistrySettings:
        return RegistrySettings(**self._shared("registry"), recipes=self._options.recipes)

    def _market(self) -> MarketSettings:
        return MarketSettings(**self._shared("market"), scheduler_url=self._url("scheduler"))

    def _scheduler(self) -> SchedulerSettings:
        return SchedulerSettings(
            **self._shared("scheduler"),
            market_url=self._url("market"),
            registry_url=self._url("registry"),
        )

    def _shared(self, service: str) -> dict[str, Any]:
        return {
            "database_url": self._database_url(service),
            "bus_url": BUS,
            "redis_url": REDIS,
            "auth_url": self._url("auth"),
            "service_secret": self._secret(service),
        }

    def _secret(self, service: str) -> SecretStr:
        return SecretStr(self._home.secret(f"service-{service}"))

    def _url(self, service: str) -> str:
        return f"unix:{self._home.socket(service)}"
