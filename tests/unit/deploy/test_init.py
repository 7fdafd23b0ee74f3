"""deploy/init: secrets, logins and certificates, once and for all."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.conftest import Compose, Init

PLATFORM, STORE, ROOT_USER = 10001, 999, 0
OF_THE_STORES = ("_database_password", "postgres_password", "redis_acl", "definitions.json")
OF_ROOT = ("ca.key", "edge.key", "bus_password", "admin_password", "redis_password", "config.yml")
PUBLIC = {"ca.pem", "edge.crt", "edge-public.conf"}


def secrets_of(project: Path) -> Path:
    return project / "deploy" / "secrets"


def contents(project: Path) -> dict[str, bytes]:
    files = [*secrets_of(project).iterdir(), project / ".env"]
    return {path.name: path.read_bytes() for path in files}


def test_a_second_run_changes_nothing(init: Init, project: Path) -> None:
    assert init("platform.example.org").returncode == 0
    first = contents(project)

    again = init("platform.example.org")

    assert again.returncode == 0
    assert "nothing changed" in again.stdout
    assert contents(project) == first


def test_what_was_lost_is_made_again_and_nothing_else(init: Init, project: Path) -> None:
    init("platform.example.org")
    first = contents(project)
    (secrets_of(project) / "redis_url").unlink()

    init()

    assert contents(project) == first


def test_each_secret_belongs_to_the_user_who_reads_it(init: Init, project: Path) -> None:
    init("platform.example.org")
    assert stat.S_IMODE(secrets_of(project).stat().st_mode) == 0o700
    for path in secrets_of(project).iterdir():
        found = path.stat()
        if path.name in PUBLIC:
            assert stat.S_IMODE(found.st_mode) == 0o444, path.name
            continue
        assert stat.S_IMODE(found.st_mode) == 0o400, path.name
        if path.name.endswith(OF_THE_STORES):
            wanted = STORE
        else:
            wanted = ROOT_USER if path.name.endswith(OF_ROOT) else PLATFORM
        assert (found.st_uid, found.st_gid) == (wanted, wanted), path.name


def test_it_makes_every_file_that_compose_mounts(
    init: Init, project: Path, compose: Compose
) -> None:
    init("platform.example.org")
    for secret in compose["secrets"].values():
        assert (project / secret["file"]).stat().st_size > 0, secret["file"]


def test_two_platforms_share_no_secret(init: Init, project: Path) -> None:
    init("platform.example.org")
    first = contents(project)
    for path in secrets_of(project).iterdir():
        path.unlink()
    init()
    second = contents(project)
    assert {name for name in first if first[name] == second[name]} == {".env", "edge-public.conf"}


def test_the_broker_knows_hashes_of_two_logins_and_no_guest(init: Init, project: Path) -> None:
    init("platform.example.org")
    text = (secrets_of(project) / "rabbitmq_definitions.json").read_text()
    users = {user["name"]: user for user in json.loads(text)["users"]}
    assert users.keys() == {"services", "admission"}
    # It may look, at its own virtual host alone.
    assert users["services"]["tags"] == "management"
    url = (secrets_of(project) / "bus_url").read_text()
    password = url.removeprefix("amqp://services:").partition("@")[0]
    salted = base64.b64decode(users["services"]["password_hash"])
    assert salted[4:] == hashlib.sha256(salted[:4] + password.encode()).digest()
    assert password not in text


def test_redis_lets_nobody_in_without_a_name(init: Init, project: Path) -> None:
    init("platform.example.org")
    default, services = (secrets_of(project) / "redis_acl").read_text().splitlines()
    assert default == "user default off"
    assert "+@all -@admin -@dangerous" in services


def test_the_edge_certificate_is_for_the_public_name_and_signed_by_the_ca(
    init: Init, project: Path
) -> None:
    folder = secrets_of(project)
    for host, option in (("platform.example.org", "-verify_hostname"), ("10.1.2.3", "-verify_ip")):
        for path in (project / ".env", folder / "edge.crt", folder / "edge.key"):
            path.unlink(missing_ok=True)
        assert init(host).returncode == 0
        verified = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", option, host,
             "-CAfile", folder / "ca.pem", folder / "edge.crt"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stderr


def test_another_name_is_refused_with_the_cure(init: Init, project: Path) -> None:
    init("platform.example.org")
    first = contents(project)
    refused = init("other.example.org")
    assert refused.returncode == 1
    assert "--rotate certificate" in refused.stderr
    assert contents(project) == first


def test_a_name_that_could_break_out_of_a_file_is_refused(init: Init, project: Path) -> None:
    for name in ("a b", "a\nCHUSUAN_VERSION=evil", "$(id)", "a;b"):
        assert init(name).returncode == 1, name
    assert not (project / ".env").exists()


def test_rotating_makes_a_group_anew_and_leaves_the_others(init: Init, project: Path) -> None:
    init("platform.example.org")
    before = contents(project)

    assert init("--rotate", "redis").returncode == 0

    after = contents(project)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"redis_password", "redis_url", "redis_acl"}


def test_ports_and_folders_of_the_first_run_stay_in_the_environment_file(
    init: Init, project: Path
) -> None:
    init("platform.example.org", CHUSUAN_HTTPS_PORT="8443", CHUSUAN_NETDISK="/srv/netdisk")
    lines = (project / ".env").read_text().splitlines()
    assert "CHUSUAN_PUBLIC_URL=https://platform.example.org:8443" in lines
    assert "CHUSUAN_REGISTRY_ADDRESS=platform.example.org:8443" in lines
    assert "CHUSUAN_NETDISK=/srv/netdisk" in lines
    assert ":8443" in (secrets_of(project) / "edge-public.conf").read_text()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_secret_is_on_a_command_line(init: Init, project: Path) -> None:
    """A tracer prints every command with its arguments; none holds what a secret file holds."""
    traced = subprocess.run(
        ["strace", "-f", "-e", "trace=execve", "-s", "4096", project / "deploy" / "init", "host"],
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    for path in secrets_of(project).iterdir():
        if path.name.endswith(("_password", "_service_secret")):
            assert path.read_text().strip() not in traced, path.name
