"""The commands in front of a gateway: sessions, errors, names, renting, ssh, copying."""

import json
import stat
from pathlib import Path

import pytest

from cli.client import Trouble
from cli.doors import ssh_command
from cli.files import net_path
from cli.naming import choose
from tests.unit.cli.conftest import IMAGE_ID, INSTANCE_ID, OFFER_ID, FakeGateway, Run


def test_login_keeps_tokens_in_a_file_for_the_owner_alone(logged_in: Run, config: Path) -> None:
    assert stat.S_IMODE((config / "sessions.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert "access-1" in (config / "sessions.json").read_text()


def test_a_wrong_password_prints_title_detail_and_field_on_stderr(run: Run) -> None:
    result = run("login", "lin", "--password-stdin", stdin="wrong\n")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "title of wrong_password", "cure of wrong_password", "field: password",
    ]  # fmt: skip


def test_without_a_login_the_cure_is_named(run: Run) -> None:
    result = run("whoami")
    assert result.exit_code == 1
    assert "chusuan login" in result.stderr


def test_an_expired_token_is_refreshed_before_the_call(run: Run, fake: FakeGateway) -> None:
    fake.lives_s = 5
    run("login", "lin", "--password-stdin", stdin="right\n")
    assert run("whoami").exit_code == 0
    assert fake.calls("GET", "/accounts/me")[0][0]["authorization"] == "Bearer access-2"


def test_a_refused_token_is_refreshed_once(logged_in: Run, fake: FakeGateway) -> None:
    fake.revoked.add("access-1")
    assert logged_in("whoami").exit_code == 0
    assert len(fake.calls("POST", "/sessions/refresh")) == 1


def test_an_ended_session_is_forgotten(logged_in: Run, fake: FakeGateway, config: Path) -> None:
    fake.revoked.add("access-1")
    fake.refresh_works = False
    result = logged_in("whoami")
    assert result.exit_code == 1
    assert "chusuan login" in result.stderr
    assert "access-1" not in (config / "sessions.json").read_text()


def test_tokens_of_one_gateway_do_not_travel_to_another(logged_in: Run) -> None:
    result = logged_in("--url", "http://127.0.0.1:9", "whoami")
    assert result.exit_code == 1
    assert "not logged in" in result.stderr


def test_logout_forgets_the_tokens(logged_in: Run, fake: FakeGateway, config: Path) -> None:
    assert logged_in("logout").exit_code == 0
    assert fake.calls("DELETE", "/sessions/current")
    assert "access-1" not in (config / "sessions.json").read_text()


def test_json_may_stand_anywhere_and_is_one_document(logged_in: Run) -> None:
    for words in (("--json", "whoami"), ("whoami", "--json")):
        assert json.loads(logged_in(*words).stdout)["username"] == "lin"


def test_the_language_travels_to_the_platform(logged_in: Run, fake: FakeGateway) -> None:
    logged_in("--lang", "zh", "whoami")
    logged_in("whoami")
    spoken = [headers["accept-language"] for headers, _ in fake.calls("GET", "/accounts/me")]
    assert spoken == ["zh-CN", "en"]


def test_rent_resolves_names_and_waits_until_it_runs(logged_in: Run, fake: FakeGateway) -> None:
    result = logged_in("rent", "sim-a", "--image", "minimal", "--env", "A=b=c", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["status"] == "running"
    assert "starting" in result.stderr
    (_, body), *_ = fake.calls("POST", "/instances")
    assert json.loads(body) == {
        "offer_id": OFFER_ID, "image_id": IMAGE_ID, "gpu_count": 1, "billing": "payg",
        "env": {"A": "b=c"},
    }  # fmt: skip


def test_a_lost_answer_is_asked_again_with_the_same_key(logged_in: Run, fake: FakeGateway) -> None:
    fake.lose_answers = 1
    result = logged_in("rent", "sim-a100", "--image", "minimal")
    assert result.exit_code == 0, result.output
    first, second = (headers for headers, _ in fake.calls("POST", "/instances"))
    assert first["idempotency-key"] == second["idempotency-key"]


def test_a_failed_start_says_why(logged_in: Run, fake: FakeGateway) -> None:
    fake.states = ["starting", "failed"]
    result = logged_in("rent", "sim-a100", "--image", "minimal")
    assert result.exit_code == 1
    assert "no reason" in result.stderr


def test_ambiguous_and_unknown_names_are_refused() -> None:
    items = [{"id": "1a", "name": "left"}, {"id": "1b", "name": "left-2"}]
    assert choose("left", items, ("实例", "instance"), "name")["id"] == "1a"
    assert choose("left-", items, ("实例", "instance"), "name")["id"] == "1b"
    for typed in ("1", "right"):
        with pytest.raises(Trouble):
            choose(typed, items, ("实例", "instance"), "name")


def test_ssh_pins_the_host_key_to_the_instance(tmp_path: Path) -> None:
    instance = {
        "id": INSTANCE_ID,
        "status": "running",
        "ssh": {"host": "h", "port": 22001, "username": "root"},
    }
    words = ssh_command(instance, tmp_path, None, ["nvidia-smi", "-L"])
    assert words[:3] == ["ssh", "-p", "22001"]
    assert f"HostKeyAlias=chusuan-{INSTANCE_ID}" in words
    assert words[-4:] == ["--", "root@h", "nvidia-smi", "-L"]
    with pytest.raises(Trouble):
        ssh_command({**instance, "status": "stopped"}, tmp_path, None, [])


def test_release_asks_first(logged_in: Run, fake: FakeGateway) -> None:
    fake.states = ["running"]
    assert logged_in("release", "nodule", stdin="n\n").exit_code == 1
    assert not fake.calls("POST", f"/instances/{INSTANCE_ID}/release")


def test_a_private_key_is_never_sent(logged_in: Run, fake: FakeGateway, tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert logged_in("keys", "add", str(key)).exit_code == 1
    assert not fake.calls("POST", "/ssh-keys")


def test_a_folder_copied_up_and_down_is_the_same(
    logged_in: Run, fake: FakeGateway, tmp_path: Path
) -> None:
    source = tmp_path / "study"
    (source / "deep").mkdir(parents=True)
    (source / "a.bin").write_bytes(bytes(range(256)) * 9000)
    (source / "deep" / "空.txt").write_bytes(b"")
    (source / "link").symlink_to("/etc/passwd")
    assert logged_in("cp", str(source), "net:/").exit_code == 1  # needs -r
    up = logged_in("cp", "-r", str(source), "net:/", "--json")
    assert json.loads(up.stdout) == {"files": 2, "bytes": 256 * 9000}, up.output
    assert set(fake.files) == {"/study/a.bin", "/study/deep/空.txt"}
    back = tmp_path / "back"
    down = logged_in("cp", "-r", "net:/study", str(back))
    assert down.exit_code == 0, down.output
    assert (back / "a.bin").read_bytes() == (source / "a.bin").read_bytes()
    assert [p.name for p in back.rglob("*") if p.is_file()].count("空.txt") == 1
    again = logged_in("cp", "net:/study/a.bin", str(back))
    assert again.exit_code == 1  # exists
    assert "--overwrite" in again.stderr


def test_paths_on_the_net_disk_stay_inside_it() -> None:
    assert net_path("net:a/b") == net_path("/a/b") == net_path("net:/x/../a//b") == "/a/b"
    assert net_path("net:/../../etc") == "/etc"
