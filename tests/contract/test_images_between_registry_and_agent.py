"""The real image centre and the real agent over one bus: recipes become images of the host, and
what a person deletes leaves it."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.main import Agent
from agent.settings import AgentSettings
from shared.ids import new_id
from tests.service.registry.conftest import RECIPES, House, Opener, open_house, write_recipes

pytestmark = pytest.mark.docker
__all__ = ["open_house"]


def docker(*words: str, typed: str = "") -> str:
    done = subprocess.run(
        ["docker", *words], input=typed, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def base() -> str:
    """An image with nothing in it, so that no test needs a network."""
    try:
        docker("build", "-q", "-t", "chusuan-test/nothing:1", "-", typed="FROM scratch\nLABEL a=1")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Docker Engine")
    return "chusuan-test/nothing:1"


@pytest.fixture
async def house(open_house: Opener, base: str, tmp_path: Path) -> AsyncIterator[House]:
    name = f"test-{new_id().hex[-10:]}"
    recipes = write_recipes(
        tmp_path / "own", {name: RECIPES["minimal"].replace('"minimal"', f'"{name}"')}
    )
    (recipes / name / "Dockerfile").write_text("FROM scratch\nCOPY recipe.toml /\n")
    async with open_house(recipes=recipes, resend_s=0.2) as house:
        # No nodes file and no GPU: a host that only builds.
        settings = AgentSettings(
            bus_url=house.tools.settings.bus_url,
            state_dir=tmp_path / "state",
            run_dir=tmp_path / "run",
            recipes=recipes,
            base_image=base,
        )
        task = asyncio.create_task(Agent(settings).run())
        yield house
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    with contextlib.suppress(subprocess.CalledProcessError):
        docker("rmi", "-f", f"chusuan/{name}:1")


async def only_system_image(house: House) -> dict[str, Any]:
    image: dict[str, Any] = (await house.get("/images", tab="system"))["items"][0]
    return image


async def test_a_recipe_becomes_an_image_that_an_instance_can_start_from(house: House) -> None:
    image = await only_system_image(house)
    ready = await house.until(image, "ready")
    found = docker("image", "inspect", "--format", "{{.Id}} {{.Size}}", ready["address"])
    assert f"{ready['digest']} {ready['size_bytes']}" == found


async def test_an_image_that_its_owner_deletes_leaves_the_host(house: House) -> None:
    system = await house.until(await only_system_image(house), "ready")
    mine = await house.saving(source_image_id=system["id"])
    docker("tag", system["address"], mine["address"])
    assert (await house.call("DELETE", f"/api/v1/images/{mine['id']}")).status_code == 204
    async with asyncio.timeout(20):
        while docker("images", "-q", mine["address"]):
            await asyncio.sleep(0.05)
    assert docker("images", "-q", system["address"])
