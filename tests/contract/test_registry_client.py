"""The scheduler's client against the real image centre."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from services.registry.main import create_app
from services.registry.settings import RegistrySettings
from services.scheduler.clients.registry import HttpRegistry, NewImage
from shared.http import RemoteRefusal
from shared.ids import new_id
from tests.identity import TestIdentity
from tests.service.registry.conftest import write_recipes


@pytest.fixture
def identity() -> TestIdentity:
    return TestIdentity()


@pytest.fixture
async def http(
    database_url: str, tmp_path: Path, identity: TestIdentity
) -> AsyncIterator[httpx.AsyncClient]:
    url = f"memory://{new_id()}"
    settings = RegistrySettings(
        database_url=database_url,
        bus_url=url,
        redis_url=url,
        auth_url="http://127.0.0.1:1",
        service_secret=SecretStr("x" * 32),
        recipes=write_recipes(tmp_path),
    )
    app = create_app(settings, key_source=identity)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry") as http,
    ):
        yield http


async def test_the_scheduler_sees_an_image_as_the_user_does_and_gets_a_place_for_a_new_one(
    http: httpx.AsyncClient, identity: TestIdentity
) -> None:
    token = identity.token()
    headers = {"authorization": f"Bearer {token}"}
    listed = (await http.get("/api/v1/images", headers=headers)).json()["items"]
    wanted = next(image for image in listed if image["name"] == "jupyter")
    registry = HttpRegistry(http)
    image = await registry.get_image(wanted["id"], token=token)
    assert (str(image.id), image.address) == (wanted["id"], "chusuan/jupyter:1")
    assert (image.cuda, [app.name for app in image.apps]) == ("12.4", ["jupyterlab", "tensorboard"])
    new = NewImage(new_id(), "mine", image.id, new_id(), new_id())
    place = await registry.create_image(new, token=token)
    assert (place.id, place.name, place.status) == (new.image_id, "mine", "building")
    assert place.apps == image.apps
    assert await registry.create_image(new, token=token) == place
    assert (await registry.get_image(place.id, token=token)).address == place.address


async def test_the_scheduler_passes_on_what_the_image_centre_refuses(
    http: httpx.AsyncClient, identity: TestIdentity
) -> None:
    registry, token = HttpRegistry(http), identity.token()
    with pytest.raises(RemoteRefusal) as refusal:
        await registry.get_image(new_id(), token=token)
    assert (refusal.value.status, refusal.value.code) == (404, "not_found")
