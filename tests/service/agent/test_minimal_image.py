"""The minimal system image, launched by the real agent: what a person finds in an instance."""

import time
from pathlib import Path

import asyncssh
import bcrypt
import pytest

from shared.events.agent import DesiredInstance, EndReason
from tests.service.agent.conftest import Stage, docker

pytestmark = pytest.mark.docker

PASSWORD = "correct horse"
ENV = {"PLAIN": "1", "ODD": "a # b \"c\" 'd' $HOME `id` \\n", "LONG": "x" * 4000, "中": "no"}
CACHES = {"PIP_CACHE_DIR", "HF_HOME", "TORCH_HOME"}


async def running(stage: Stage, **changes: object) -> DesiredInstance:
    order = stage.new_order(**changes)
    await stage.tell(order)
    await stage.until_state(order, "running")
    return order


async def interactive(stage: Stage, order: DesiredInstance, typed: str) -> str:
    """What a terminal shows."""
    async with asyncssh.connect(
        "127.0.0.1", order.ssh_port, username="root", client_keys=[stage.key], known_hosts=None,
        config=None,
    ) as connection:  # fmt: skip
        done = await connection.run(
            term_type="xterm", input=f"{typed}\nexit\n", encoding="utf-8", stderr=asyncssh.STDOUT
        )
    return str(done.stdout)


async def test_the_instances_variables_reach_sessions_as_they_are(stage: Stage) -> None:
    env = {name: value for name, value in ENV.items() if name.isascii()}
    order = await running(stage, env=env)
    for shell in ("{}", "bash -lc '{}'", "bash -ic '{}' 2>/dev/null"):
        found = await stage.ssh(order, shell.format("env -0"))
        seen = dict(line.partition("=")[::2] for line in found.split("\0"))
        assert {name: seen.get(name) for name in env} == env, shell
        assert all(seen[name].startswith("/root/data/") for name in CACHES), shell


async def test_root_logs_in_with_the_password_and_no_other(stage: Stage) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
    order = await running(stage, password_hash=hashed)

    async def log_in(password: str) -> str:
        async with asyncssh.connect(
            "127.0.0.1", order.ssh_port, username="root", password=password, client_keys=None,
            known_hosts=None, config=None,
        ) as connection:  # fmt: skip
            return str((await connection.run("id -un", check=True)).stdout)

    assert await log_in(PASSWORD) == "root\n"
    with pytest.raises(asyncssh.PermissionDenied):
        await log_in("wrong")


async def test_its_host_key_is_the_one_ordered(stage: Stage) -> None:
    order = await running(stage)
    async with asyncssh.connect(
        "127.0.0.1", order.ssh_port, username="root", client_keys=[stage.key], known_hosts=None,
        config=None,
    ) as connection:  # fmt: skip
        shown = connection.get_server_host_key()
    wanted = asyncssh.import_private_key(order.ssh_host_key)
    assert shown is not None
    assert shown.public_data == wanted.public_data


async def test_files_travel_over_sftp(stage: Stage, tmp_path: Path) -> None:
    order = await running(stage)
    (tmp_path / "scan").write_bytes(b"\0" * 100_000)
    async with (
        asyncssh.connect(
            "127.0.0.1", order.ssh_port, username="root", client_keys=[stage.key],
            known_hosts=None, config=None,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):  # fmt: skip
        await sftp.put(str(tmp_path / "scan"), "/root/netdisk/scan")
    assert await stage.ssh(order, "wc -c < /root/netdisk/scan") == "100000"


async def test_a_simulated_card_says_that_it_is_one(stage: Stage) -> None:
    order = await running(stage, gpus=["GPU-a", "GPU-b"])
    shown = await stage.ssh(order, "nvidia-smi")
    assert "SIMULATED" in shown
    assert shown.count("(no hardware)") == 2
    assert "SIMULATED GPUs" in await interactive(stage, order, "true")


async def test_without_a_card_nvidia_smi_fails_and_prompt_and_banner_say_so(stage: Stage) -> None:
    order = await running(stage, mode="cpu", gpus=[], cpu_cores=0.5)
    assert await stage.ssh(order, "nvidia-smi >/dev/null 2>&1; echo $?") == "9"
    assert await stage.ssh(order, "ls /dev/nvidia* 2>/dev/null | wc -l") == "0"
    terminal = await interactive(stage, order, "true")
    assert "No-card mode" in terminal
    assert "(no GPU 无卡) root@" in terminal


@pytest.mark.parametrize(
    "command", ["shutdown", "shutdown -h now", "poweroff", "/usr/bin/shutdown"]
)
async def test_shutdown_typed_inside_ends_the_instance(stage: Stage, command: str) -> None:
    order = await running(stage)
    await stage.ssh(order, command)
    ended = await stage.until_state(order, "stopped")
    assert (ended.end_reason, ended.exit_code) == (EndReason.shutdown, 0)


async def test_a_stop_lets_processes_say_goodbye_and_is_quick(stage: Stage) -> None:
    order = await running(stage)
    script = "trap 'echo saved > /root/netdisk/checkpoint; exit' TERM; while :; do sleep 0.1; done"
    await stage.ssh(order, f"setsid sh -c '{script.replace(chr(39), chr(34))}' >/dev/null 2>&1 &")
    began = time.monotonic()
    docker("stop", *stage.containers(order))
    assert time.monotonic() - began < 5
    volume = stage.settings.netdisk_root / "volumes" / str(order.volume_id) / "files"
    assert (volume / "checkpoint").read_text() == "saved\n"


async def test_pip_tmux_and_git_are_there_and_pip_installs_for_everyone(stage: Stage) -> None:
    order = await running(stage)
    assert (await stage.ssh(order, "tmux -V; git --version; python --version")).count("\n") == 2
    await stage.ssh(order, "tmux new-session -d -s work 'sleep 100'")
    assert "work" in await stage.ssh(order, "tmux ls")
    project = "mkdir -p /tmp/p/thing && cd /tmp/p && touch thing/__init__.py"
    toml = 'printf \'[project]\\nname="thing"\\nversion="1"\\n\' > pyproject.toml'
    await stage.ssh(order, f"{project} && {toml}")
    done = await stage.ssh(
        order, "pip install --no-index --no-build-isolation /tmp/p 2>&1; echo $?"
    )
    assert done.endswith("\n0"), done
    assert await stage.ssh(order, "python -c 'import thing; print(1)'") == "1"


def test_nothing_secret_and_nothing_of_the_build_host_is_in_the_image(image: str) -> None:
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "token" not in history.lower()
    assert ".host" not in history
    left = docker(
        "run", "--rm", "--entrypoint", "sh", image, "-c",
        "ls /etc/ssh/ssh_host_* /tmp/host /etc/pip.conf /root/.npmrc /etc/apt/sources.list.d/*"
        " 2>/dev/null; grep -h ^deb /etc/apt/sources.list; grep ^root: /etc/shadow | cut -d: -f2",
    )  # fmt: skip
    assert left.split("\n") == [
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://deb.debian.org/debian-security bookworm-security main",
        "*",
    ]
