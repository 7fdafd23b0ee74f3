"""A platform that can be killed at named points, and two people on it."""

import os
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.platform import EmbeddedPlatform, system_image
from tests.fault.flows import World, new_person
from tests.fault.history import History
from tests.fault.stubborn import Stubborn
from tests.fault.topology import CrashPoints, Embedded

# `make fault`; without it each file does its own short form.
LONG = "CHUSUAN_FAULT_LONG" in os.environ
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)


@pytest.fixture(scope="session")
def crash_points(tmp_path_factory: pytest.TempPathFactory) -> CrashPoints:
    return CrashPoints(tmp_path_factory.mktemp("crashing"))


@pytest.fixture(scope="session")
async def topology(crash_points: CrashPoints) -> AsyncIterator[Embedded]:
    home = Path(tempfile.mkdtemp(prefix="chusuan-fault-"))
    running = Embedded(
        EmbeddedPlatform(home, recipes=("minimal",), environment=crash_points.environment)
    )
    try:
        await running.start()
        yield running
    finally:
        if not os.environ.get("KEEP"):
            await running.platform.clear()


@pytest.fixture(scope="session")
async def world(topology: Embedded) -> AsyncIterator[World]:
    image = await system_image(topology.platform, "minimal")
    history = History()
    operator = Stubborn.at(topology.url, "admin", topology.operator_password, history)
    user, account_id = await new_person(topology, operator, history)
    yield World(topology, operator, user, account_id, image)
    for person in (operator, user):
        await person.close()
