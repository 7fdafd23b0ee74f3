"""A crash point kills where and when it is told to, and is nothing otherwise."""

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from shared.crashing import crash_point, crash_points, doing
for number in range(3):
    with doing(lambda: "room.route"), crash_points("call", of_use=True):
        print(number, flush=True)
    crash_point("other")
"""


def run(**environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True,
        cwd=Path(__file__).parents[3], check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_without_a_word_in_the_environment_nothing_happens() -> None:
    assert run() == (0, "0\n1\n2\n")


def test_the_process_is_killed_at_the_nth_pass_of_the_named_point() -> None:
    assert run(CHUSUAN_CRASH_AT="room.route.call.after") == (-signal.SIGKILL, "0\n")
    assert run(CHUSUAN_CRASH_AT="room.route.call.before#3") == (-signal.SIGKILL, "0\n1\n")
    assert run(CHUSUAN_CRASH_AT="nowhere") == (0, "0\n1\n2\n")


def test_a_file_may_name_the_point_and_another_gets_every_pass(tmp_path: Path) -> None:
    at, record = tmp_path / "at", tmp_path / "record"
    at.write_text("other#2\n")
    environment = {"CHUSUAN_CRASH_AT": f"@{at}", "CHUSUAN_CRASH_RECORD": str(record)}
    assert run(**environment) == (-signal.SIGKILL, "0\n1\n")
    passed = ["room.route.call.before", "room.route.call.after", "other"]
    assert record.read_text().split() == passed * 2
