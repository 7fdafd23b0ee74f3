"""The state folder is tight, and nothing outside it changes."""

import stat
from pathlib import Path

from cli.up.home import Home


def test_everything_in_the_state_folder_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    home = Home(tmp_path / "state")
    home.prepare()
    home.secret("extra")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o711
    for path in home.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_secrets_and_the_operators_password_survive_a_second_start(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    home.prepare()
    first = (home.secret("service-auth"), home.operator_password.read_text())
    home.prepare()
    assert (home.secret("service-auth"), home.operator_password.read_text()) == first
    assert len(set(first)) == 2
