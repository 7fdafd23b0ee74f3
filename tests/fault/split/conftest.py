"""One split platform for all of them, since it takes most of a minute to start."""

import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e import split
from tests.e2e.platform import system_image
from tests.fault.conftest import LONG
from tests.fault.flows import World, new_person
from tests.fault.history import History
from tests.fault.split.topology import QUICK, Split
from tests.fault.stubborn import Stubborn

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The short form needs `--topology=split`; `make fault` does all."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.docker)
        item.add_marker(pytest.mark.timeout(900))
        if not LONG and config.getoption("topology") != "split":
            item.add_marker(pytest.mark.skip(reason="--topology=split"))
        if not LONG and item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="make fault"))


@pytest.fixture(scope="session")
async def topology() -> AsyncIterator[Split]:
    if why := split.impossible():
        pytest.skip(why)
    home = Path(tempfile.mkdtemp(prefix="chusuan-broken-"))
    running = Split(split.SplitPlatform(home, recipes=("minimal",), environment=QUICK))
    began = time.monotonic()
    try:
        await running.start()
        await running.platform.broker.settle()
        sys.stderr.write(f"the split platform runs after {time.monotonic() - began:.1f} s\n")
        yield running
    finally:
        if not os.environ.get("KEEP"):
            await running.platform.clear()


@pytest.fixture(scope="session")
async def world(topology: Split) -> AsyncIterator[World]:
    image = await system_image(topology.platform, "minimal")
    history = History()
    operator = Stubborn.at(topology.url, "admin", topology.operator_password, history)
    user, account_id = await new_person(topology, operator, history)
    yield World(topology, operator, user, account_id, image)
    for person in (operator, user):
        await person.close()


@pytest.fixture(autouse=True)
async def emptied(request: pytest.FixtureRequest, world: World) -> AsyncIterator[None]:
    """Each begins on hosts that run nothing."""
    began = time.monotonic()
    sys.stderr.write(f"\n== {request.node.name}\n")
    yield
    sys.stderr.write(f"took {time.monotonic() - began:.1f} s\n")
    await world.release_all()
