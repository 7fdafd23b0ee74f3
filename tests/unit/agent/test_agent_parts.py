"""The agent's smaller pure parts: launch, folders, journal, nodes.toml, firewall, times."""

from pathlib import Path
from uuid import UUID

import pytest

from agent import firewall
from agent.docker import parse_time
from agent.engine import FileCopy
from agent.folders import prepare_folders, run_files
from agent.inventory import split_ports
from agent.journal import Journal, Originals
from agent.launch import CAPABILITIES, Host, container_config, host_config, spec_hash
from agent.nodes import NodesFileError, read_nodes
from agent.saving import blank_shadow
from tests.unit.agent.orders import INSTANCE, NODE, an_entry, an_order

DECLARED = Path(__file__).parents[3] / "deploy" / "nodes.toml"


def a_host(root: Path = Path("/h"), *, simulated: bool = True) -> Host:
    return Host(
        node_id=NODE,
        simulated=simulated,
        cpus=2.0,
        memory_bytes=8 << 30,
        network="chusuan",
        publish_address="192.0.2.1",
        app_publish_address="127.0.0.1",
        state_dir=root / "state",
        run_dir=root / "run",
        netdisk_root=root / "net",
    )


def test_the_host_config_is_exactly_the_allowlist() -> None:
    def mount(source: str, target: str, read_only: bool) -> dict[str, object]:
        return {
            "Type": "bind",
            "Source": source,
            "Target": target,
            "ReadOnly": read_only,
            "BindOptions": {"Propagation": "rprivate"},
        }

    assert host_config(an_order(), a_host()) == {
        "NetworkMode": "chusuan",
        "PortBindings": {
            "22/tcp": [{"HostIp": "192.0.2.1", "HostPort": "22000"}],
            "8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "22001"}],
        },
        "Mounts": [
            mount(f"/h/run/instances/{INSTANCE}", "/run/chusuan", True),
            mount(f"/h/net/volumes/{UUID(int=3)}/files", "/root/netdisk", False),
            mount(f"/h/state/data/{INSTANCE}", "/root/data", False),
            mount("/h/net/public", "/root/public", True),
        ],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [*CAPABILITIES],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "IpcMode": "private",
        "NanoCpus": 2_000_000_000,
        "Memory": 8 << 30,
        "MemorySwap": 8 << 30,
        "ShmSize": 4 << 30,
        "PidsLimit": 16384,
        "OomScoreAdj": 500,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    }
    without_apps = host_config(an_order(app_port=None), a_host())
    assert without_apps["PortBindings"] == {
        "22/tcp": [{"HostIp": "192.0.2.1", "HostPort": "22000"}]
    }
    assert not {"MKNOD", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SETFCAP"} & {*CAPABILITIES}


def test_real_cards_are_named_one_by_one_and_no_card_mode_sees_none() -> None:
    host = a_host(simulated=False)
    devices = host_config(an_order(), host)["DeviceRequests"]
    assert devices == [
        {
            "Driver": "nvidia",
            "DeviceIDs": ["GPU-b", "GPU-a"],
            "Capabilities": [["gpu", "compute", "utility"]],
        }
    ]
    bare = an_order(mode="cpu", gpus=[])
    assert "DeviceRequests" not in host_config(bare, host)
    config = container_config(bare, host, spec="s", disk=0)
    assert config["Env"] == ["NVIDIA_VISIBLE_DEVICES=void", "CHUSUAN_SIMULATED_GPUS="]


def test_the_users_variables_never_reach_the_engine() -> None:
    config = container_config(an_order(env={"LD_PRELOAD": "x"}), a_host(), spec="s", disk=0)
    assert "LD_PRELOAD" not in str(config)


def test_other_simulated_cards_keep_the_container_and_other_real_ones_do_not() -> None:
    here, there = an_order(gpus=["a"]), an_order(gpus=["b"])
    assert spec_hash(here, simulated=True) == spec_hash(there, simulated=True)
    assert spec_hash(here, simulated=False) != spec_hash(there, simulated=False)
    assert spec_hash(here, simulated=True) != spec_hash(
        an_order(gpus=[], mode="cpu"), simulated=True
    )


def test_the_run_folder_says_what_the_contract_with_the_images_says(tmp_path: Path) -> None:
    host = a_host(tmp_path)
    prepare_folders(an_order(), host)
    folder = host.run_folder(INSTANCE)
    assert {p.name for p in folder.iterdir()} == {*run_files(an_order())}
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "env").read_text() == "A=1\n"
    assert run_files(an_order(env={"A": "1\nB=2"}))["env"] == "A=1 B=2\n"


def test_the_journal_gives_back_what_was_written_and_passes_over_what_is_broken(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path)
    journal.write(an_entry())
    (tmp_path / "instances" / "broken.json").write_text("{")
    assert journal.load(NODE) == {INSTANCE: an_entry()}
    assert journal.load(UUID(int=99)) == {}
    file = FileCopy(b"\xff\x00", 0o640, 0, 42)
    journal.write_originals(INSTANCE, Originals.of("c", {"/a": file}, {"/a": b""}))
    read = journal.originals(INSTANCE)
    assert read is not None
    assert read.copies() == {"/a": file}
    path = tmp_path / "instances" / f"{INSTANCE}.originals"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_quick_starts_nodes_are_understood() -> None:
    assert "sim-4090" in [node.name for node in read_nodes(DECLARED)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("simulated = true", "simulated = false"), "simulated"),
        (("gpu_count = 8", "gpu_count = 0"), "[[node]] number 1, gpu_count"),
        (("sim-a100-pcie", "sim-4090"), "two nodes are named"),
        (("tflops", "teraflops"), "teraflops"),
        (("[[node]]", "[[node"), "line"),
    ],
)
def test_a_wrong_nodes_file_is_refused_with_the_place(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(DECLARED.read_text().replace(*change))
    with pytest.raises(NodesFileError) as refused:
        read_nodes(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


def test_nodes_share_the_ports_without_overlap() -> None:
    assert split_ports(22000, 22999, 3) == [(22000, 22332), (22333, 22665), (22666, 22998)]


def test_only_roots_hash_is_blanked() -> None:
    shadow = b"root:$6$a$b:1:0:::::\nbob:$6$c$d:1:0:::::\n"
    assert blank_shadow(shadow) == b"root:*:1:0:::::\nbob:$6$c$d:1:0:::::\n"


def test_the_firewall_denies_host_and_metadata_always_and_private_nets_on_wish() -> None:
    usual = firewall.rules(deny_private_egress=False)
    assert "-A CHUSUAN-INPUT -j DROP" in usual
    assert "-d 169.254.0.0/16 -j DROP" in usual
    assert "-d 100.100.100.200/32 -j DROP" in usual
    assert "10.0.0.0/8" not in usual
    assert "10.0.0.0/8" in firewall.rules(deny_private_egress=True)


def test_dockers_times_are_read_to_the_microsecond() -> None:
    read = parse_time("2026-01-02T03:04:05.123456789Z")
    assert read is not None
    assert read.isoformat() == "2026-01-02T03:04:05.123456+00:00"
    assert parse_time("0001-01-01T00:00:00Z") is None
