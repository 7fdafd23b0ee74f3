"""What the doctor finds, and that everything wrong comes with a cure."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cli.doctor_finding import Finding, Verdict
from cli.doctor_host import (
    TOOLKIT_CONFIG,
    check_bridge,
    check_cgroups,
    check_netdisk,
    check_toolkit,
)
from cli.doctor_local import check_clock, check_docker, check_home
from cli.doctor_platform import judge
from cli.up.home import Home
from tests.unit.cli.conftest import Run

WELL: dict[str, Any] = {
    "redis_alive": True,
    "services": [
        {
            "service": "market",
            "health": {
                "service": "market",
                "database": {
                    "migration": "0002", "head": "0002", "outbox_waiting": 0,
                    "outbox_oldest_s": 0.0, "dead_letters": 0,
                    "figures": {"ledger_faults": 0, "wallets": 7},
                },
                "bus_alive": True,
                "redis_alive": True,
                "workers": [
                    {"name": "market.hours", "interval_s": 30, "done_ago_s": 3.0, "failures": 0}
                ],
            },
        }
    ],
}  # fmt: skip


def faults(health: dict[str, Any]) -> list[str]:
    found = [f for f in judge(health) if f.verdict is Verdict.wrong]
    assert all(f.cure is not None and f.cure.zh and f.cure.en for f in found)
    return [f.about for f in found]


def test_a_platform_that_is_well_has_nothing_wrong() -> None:
    assert faults(WELL) == []
    assert [f.about for f in judge(WELL)] == ["gateway.redis", "market"]


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("about", "change"),
    [
        ("market.bus", lambda h: h.update(bus_alive=False)),
        ("market.redis", lambda h: h.update(redis_alive=False)),
        ("market.database", lambda h: h.update(database=None)),
        ("market.migration", lambda h: h["database"].update(migration="0001")),
        ("market.outbox", lambda h: h["database"].update(outbox_waiting=3, outbox_oldest_s=61)),
        ("market.dead_letters", lambda h: h["database"].update(dead_letters=1)),
        ("market.ledger_faults", lambda h: h["database"]["figures"].update(ledger_faults=1)),
        ("market.nodes_lost", lambda h: h["database"]["figures"].update(nodes_lost=2)),
        ("market.worker.hours", lambda h: h["workers"][0].update(done_ago_s=151)),
    ],
)
def test_each_thing_that_is_wrong_is_named_with_its_cure(about: str, change: Change) -> None:
    health = deepcopy(WELL)
    change(health["services"][0]["health"])
    assert faults(health) == [about]


def test_a_service_that_does_not_answer_is_named() -> None:
    health = deepcopy(WELL)
    health["services"][0]["health"] = None
    assert faults(health) == ["market"]


def verdict(finding: Finding) -> Verdict:
    assert finding.verdict is not Verdict.wrong or finding.cure is not None
    return finding.verdict


def test_a_home_that_is_open_to_others_is_wrong_and_the_cure_closes_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    assert verdict(check_home(home.root)) is Verdict.ok
    (home.secrets / "service-auth").chmod(0o644)
    home.storage.chmod(0o755)
    found = check_home(home.root)
    assert verdict(found) is Verdict.wrong
    assert found.cure is not None
    for command in found.cure.en.split("; "):
        _, mode, path = command.split(" ")
        Path(path).chmod(int(mode, 8))
    assert verdict(check_home(home.root)) is Verdict.ok


def test_a_docker_engine_that_does_not_answer_is_wrong(tmp_path: Path) -> None:
    assert verdict(check_docker(tmp_path / "docker.sock")) is Verdict.wrong


def test_a_clock_without_a_gateway_to_compare_is_unknown_not_wrong() -> None:
    assert verdict(check_clock("http://127.0.0.1:1")) is Verdict.unknown


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", Verdict.wrong),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged = true", Verdict.wrong),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged = false", Verdict.ok),
        ("not toml", Verdict.wrong),
    ],
)
def test_a_toolkit_that_lets_images_ask_for_cards_is_wrong(
    tmp_path: Path, config: str, expected: Verdict
) -> None:
    path = tmp_path / TOOLKIT_CONFIG
    path.parent.mkdir(parents=True)
    path.write_text(config)
    assert verdict(check_toolkit(tmp_path)) is expected


def test_a_host_without_cgroup_limits_is_wrong(tmp_path: Path) -> None:
    base = tmp_path / "sys/fs/cgroup"
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpu io pids\n")
    assert verdict(check_cgroups(tmp_path)) is Verdict.wrong
    (base / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert verdict(check_cgroups(tmp_path)) is Verdict.ok


def test_a_bridge_that_passes_the_firewall_by_is_wrong(tmp_path: Path) -> None:
    assert verdict(check_bridge(tmp_path)) is Verdict.wrong
    path = tmp_path / "proc/sys/net/bridge/bridge-nf-call-iptables"
    path.parent.mkdir(parents=True)
    path.write_text("0\n")
    assert verdict(check_bridge(tmp_path)) is Verdict.wrong
    path.write_text("1\n")
    assert verdict(check_bridge(tmp_path)) is Verdict.ok


def test_a_net_disk_that_is_not_mounted_is_wrong(tmp_path: Path) -> None:
    assert verdict(check_netdisk(tmp_path / "nowhere")) is Verdict.wrong
    assert verdict(check_netdisk(tmp_path)) is Verdict.ok


def test_the_command_prints_one_document_and_ends_with_1_when_something_is_wrong(
    run: Run, tmp_path: Path
) -> None:
    result = run("doctor", "--json", "--home", str(tmp_path / "none"))
    document = json.loads(result.stdout)
    wrong = [f for f in document["findings"] if f["verdict"] == "wrong"]
    assert result.exit_code == 1
    assert not document["healthy"]
    # The played gateway knows no readiness.
    assert "gateway" in [f["about"] for f in wrong]
    assert all(f["cure"] for f in wrong)
