"""What the repository deploys, as data; and a project folder that `deploy/init` has filled."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]

Compose = dict[str, Any]
Init = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def compose() -> Compose:
    document: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what `deploy/init` and compose read."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(ROOT / "docker-compose.yml", folder)
    return folder


@pytest.fixture
def init(project: Path) -> Init:
    if os.geteuid() != 0:
        pytest.skip("deploy/init gives files to the containers' users: run as root")

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [project / "deploy" / "init", *arguments],
            env={"PATH": os.environ["PATH"], **environment},
            check=False,
            capture_output=True,
            text=True,
        )

    return run


def interpolated(words: str, values: dict[str, str]) -> str:
    """As compose does it: `${NAME:-default}`, `${NAME:?why}`, `${NAME}`."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1]) or (found[3] if found[2] == ":-" else "")

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", value, words)
