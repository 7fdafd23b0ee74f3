"""Finds the Docker Engine, or installs and starts Debian's where that is allowed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.engine import LABEL_MADE_ON, LABEL_NODE

SOCKET = Path("/var/run/docker.sock")
START_TIMEOUT_S = 60.0
PID_FILES = {
    "dockerd": Path("/var/run/docker.pid"),
    "containerd": Path("/var/run/docker/containerd/containerd.pid"),
}

Say = Callable[[str], None]


def ensure_docker(*, install: bool, log: Path, say: Say) -> str | None:
    """None when an engine answers; else one sentence that says what is missing and the cure."""
    if engine_answers():
        return None
    if not install:
        return "No Docker Engine answers (--no-install): start one to offer GPU hosts."
    if os.geteuid() != 0:
        return "No Docker Engine answers: install Docker and join its group to offer GPU hosts."
    if shutil.which("dockerd") is None:
        if shutil.which("apt-get") is None:
            return "No Docker Engine is installed: install Docker to offer GPU hosts."
        say("Installing Debian's docker.io …")
        if not _install():
            return "docker.io could not be installed: run `apt-get install docker.io` and see why."
    say("Starting the Docker Engine …")
    _start(log)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if engine_answers():
            return None
        time.sleep(0.2)
    return f"The Docker Engine did not start: see {log}."


def remove_instances(node_ids: Sequence[str]) -> None:
    """All of these hosts, running or not, and the images that were made of them. Where no engine
    answers there are none."""
    if not engine_answers():
        return
    for node_id in node_ids:
        found = _docker("ps", "-aq", "--filter", f"label={LABEL_NODE}={node_id}").split()
        if found:
            _docker("rm", "-f", "-v", *found)
        made = _docker("images", "-q", "--filter", f"label={LABEL_MADE_ON}={node_id}").split()
        if made:
            _docker("rmi", "-f", *set(made))


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def engine_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        return probe.connect_ex(str(SOCKET)) == 0


def _install() -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "docker.io", "iptables"],
    )
    return all(
        subprocess.run(
            c, env=environment, check=False, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ).returncode
        == 0
        for c in commands
    )


def _start(log: Path) -> None:
    """By systemd where it runs; else as a process of its own that outlives us, as containers do."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False)
        return
    for name, path in PID_FILES.items():
        forget_dead(path, name)
    with log.open("ab") as output:
        subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def forget_dead(pid_file: Path, name: str) -> None:
    """A daemon that was killed leaves its number behind, by now a zombie's or another program's,
    and Docker does not start while it thinks that it runs."""
    try:
        pid = int(pid_file.read_text())
        # pid (name) state …, where the name may hold anything.
        found, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except (FileNotFoundError, ValueError):
        pid_file.unlink(missing_ok=True)
        return
    if found != name or rest.split()[0] == "Z":
        pid_file.unlink()


if __name__ == "__main__":
    missing = ensure_docker(
        install=True, log=Path(sys.argv[1]), say=lambda words: print(words, flush=True)
    )
    sys.exit(missing)
