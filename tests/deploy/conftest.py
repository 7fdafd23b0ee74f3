"""The whole split platform, started once. `make compose-test` asks for it; it takes minutes."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.stack import Stack

# The compose command to drive: `docker-compose` or `docker compose`.
COMPOSE = os.environ.get("CHUSUAN_COMPOSE", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="starts the whole split platform: make compose-test")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not COMPOSE:
            item.add_marker(skip)


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="chusuan-compose-"))
    made = Stack.prepare(folder / "project", COMPOSE)
    try:
        made.run("up", "-d")
        await made.until_well()
        yield made
        for name, used in sorted(made.memory()):
            sys.stderr.write(f"{name}: {used}\n")
    finally:
        made.run("--profile", "agent", "down", "-v", "-t", "20")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["rm", "-rf", f"/run/{made.name}"], check=False)
