"""docker-compose.yml keeps what the guide promises."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from cli.images import ROOT, platform_image, stand_ins
from gateway.settings import GatewaySettings
from services.auth.settings import AuthSettings
from services.market.settings import MarketSettings
from services.registry.settings import RegistrySettings
from services.scheduler.settings import SchedulerSettings
from services.storage.settings import StorageSettings
from tests.unit.deploy.conftest import Compose, Init, interpolated

SETTINGS: dict[str, type[BaseSettings]] = {
    "auth": AuthSettings,
    "gateway": GatewaySettings,
    "market": MarketSettings,
    "registry": RegistrySettings,
    "scheduler": SchedulerSettings,
    "storage": StorageSettings,
}
STORES = {"postgres", "redis"}
INSIDE_ONLY = STORES | {"auth", "market", "scheduler"}
ENDS_BY_ITSELF = {"invite"}
PUBLISHED = {"edge", "storage"}


def services(compose: Compose) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def test_every_service_says_whether_it_is_well(compose: Compose) -> None:
    without = {name for name, service in services(compose).items() if "healthcheck" not in service}
    assert without == ENDS_BY_ITSELF


def test_every_service_has_limits_and_a_bounded_log(compose: Compose) -> None:
    for name, service in services(compose).items():
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys(), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_a_service_starts_after_those_it_needs_are_well(compose: Compose) -> None:
    for name, service in services(compose).items():
        for needed, how in service.get("depends_on", {}).items():
            ends = needed in ENDS_BY_ITSELF
            wanted = "service_completed_successfully" if ends else "service_healthy"
            assert how == {"condition": wanted}, f"{name} after {needed}"


def test_stores_are_reached_from_the_closed_network_alone(compose: Compose) -> None:
    assert compose["networks"]["control"] == {"internal": True}
    for name in INSIDE_ONLY:
        assert services(compose)[name]["networks"] == ["control"], name
    for name in ("edge", "oci", "invite"):
        assert set(services(compose)[name]["networks"]) == {"data"}, name


def test_only_the_edge_and_the_net_disk_publish_ports(compose: Compose) -> None:
    assert {name for name, service in services(compose).items() if "ports" in service} == PUBLISHED


def test_the_gateway_believes_the_edge_alone(compose: Compose) -> None:
    edge = services(compose)["edge"]["networks"]["data"]["ipv4_address"]
    gateway = services(compose)["gateway"]["environment"]
    assert gateway["CHUSUAN_GATEWAY_TRUSTED_PROXIES"] == edge
    # Nobody else may be given that address.
    assert compose["networks"]["data"]["ipam"]["config"][0]["ip_range"].endswith(".128/25")


def test_no_service_that_may_have_copies_is_bound_to_a_name_or_a_port(compose: Compose) -> None:
    for name in SETTINGS.keys() - PUBLISHED:
        assert not {"container_name", "hostname", "ports"} & services(compose)[name].keys(), name


@pytest.mark.parametrize("word", ["password", "secret", "token", "_url"])
def test_no_secret_stands_in_an_environment(compose: Compose, word: str) -> None:
    for name, service in services(compose).items():
        for key, value in service.get("environment", {}).items():
            assert "@" not in value, f"{name}: {key} holds a login"
            is_a_place = value.startswith(("/", "http://", "https://", "amqps://", "${CHUSUAN_"))
            assert word not in key.lower() or is_a_place, f"{name}: {key}={value}"


def test_images_are_those_that_can_be_made_here(compose: Compose) -> None:
    known = {one.image for one in stand_ins()}
    version = platform_image().partition(":")[2]
    for name, service in services(compose).items():
        image = interpolated(service["image"], {})
        assert image in known | {f"chusuan/platform:{version}"}, name
        assert "build" not in service, name


def test_the_agent_is_one_node(compose: Compose) -> None:
    mounts = services(compose)["agent"]["volumes"]
    (declared,) = [m for m in mounts if m.endswith(":/etc/chusuan/nodes.toml:ro")]
    path = ROOT / interpolated(declared, {}).partition(":")[0]
    assert len(tomllib.loads(path.read_text())["node"]) == 1


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_service_finds_all_its_settings_in_environment_and_files(
    name: str,
    compose: Compose,
    init: Init,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert init("platform.example.org").returncode == 0
    words = (line.partition("=") for line in (project / ".env").read_text().splitlines())
    values = {key: value for key, _, value in words}
    service = services(compose)[name]
    folder = tmp_path / "secrets"
    folder.mkdir()
    for secret in service["secrets"]:
        source, target = (
            (secret, secret) if isinstance(secret, str) else (secret["source"], secret["target"])
        )
        content = (project / compose["secrets"][source]["file"]).read_bytes()
        (folder / target).write_bytes(content)
    for key, value in service["environment"].items():
        monkeypatch.setenv(key, interpolated(value, values))

    settings = SETTINGS[name](_secrets_dir=str(folder))

    assert settings.model_dump()["service_secret"].get_secret_value()
    if isinstance(settings, AuthSettings):
        assert settings.service_secrets.keys() == SETTINGS.keys()
    if isinstance(settings, GatewaySettings):
        assert settings.upstreams.keys() == SETTINGS.keys() - {"gateway"}
        assert settings.redis_url.startswith("redis://services:")
    else:
        assert settings.model_dump()["bus_url"].startswith("amqp://services:")
        assert f"@postgres:5432/{name}" in settings.model_dump()["database_url"]
