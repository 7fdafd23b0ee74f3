"""What a killed Docker Engine leaves behind does not keep the next one from starting."""

import os
import subprocess
from pathlib import Path

from cli.up.docker import forget_dead


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_the_number_of_a_living_daemon_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text(str(os.getpid()))
    forget_dead(file, name_of(os.getpid()))
    assert file.exists()


def test_the_number_of_a_zombie_of_another_program_and_of_nobody_is_forgotten(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pid"
    zombie = subprocess.Popen(["true"])
    # It has ended when this returns, and nobody has asked for its end yet.
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    file.write_text(str(zombie.pid))
    forget_dead(file, "true")
    assert not file.exists()
    file.write_text(str(os.getpid()))
    forget_dead(file, "dockerd")
    assert not file.exists()
    zombie.wait()
    file.write_text(str(zombie.pid))
    forget_dead(file, "true")
    assert not file.exists()
    file.write_text("no number")
    forget_dead(file, "true")
    assert not file.exists()
