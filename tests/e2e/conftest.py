"""The whole platform as a user starts it, and people on it."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e import split
from tests.e2e.people import Json, Person, approved, log_in, run
from tests.e2e.platform import EmbeddedPlatform, RunningPlatform, system_image


@pytest.fixture(scope="session")
async def platform(pytestconfig: pytest.Config) -> AsyncIterator[RunningPlatform]:
    home = Path(tempfile.mkdtemp(prefix="chusuan-e2e-"))
    running: RunningPlatform = EmbeddedPlatform(home)
    if pytestconfig.getoption("topology") == "split":
        if why := split.impossible():
            shutil.rmtree(home)
            pytest.skip(why)
        running = split.SplitPlatform(home)
    # Also a run that `timeout` ends leaves nothing behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        await running.start()
        yield running
    finally:
        sys.stderr.write(running.log()[-6000:] if os.environ.get("CHUSUAN_SHOW_LOG") else "")
        if not os.environ.get("KEEP"):
            await running.clear()


@pytest.fixture(scope="module")
async def operator(platform: RunningPlatform) -> AsyncIterator[Person]:
    person = await log_in(platform.url, "admin", platform.operator_password)
    yield person
    await person.http.aclose()


@pytest.fixture(scope="module")
async def user(platform: RunningPlatform, operator: Person) -> AsyncIterator[Person]:
    person = await approved(platform.url, operator)
    yield person
    await person.http.aclose()


@pytest.fixture(scope="module")
async def key(user: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key whose public half the user has added."""
    path = tmp_path_factory.mktemp("ssh") / "id_ed25519"
    await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    public = path.with_suffix(".pub").read_text().strip()
    await user.post("/ssh-keys", {"name": "laptop", "public_key": public})
    return path


@pytest.fixture(scope="session")
async def image(platform: RunningPlatform) -> Json:
    """The minimal system image, once it is built."""
    return await system_image(platform, "minimal")
