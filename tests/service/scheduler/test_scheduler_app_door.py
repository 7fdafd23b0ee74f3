"""What the gateway is told of an instance's apps: its client against the real scheduler."""

from uuid import UUID

import pytest

from gateway.directory import App, AppDoor, Directory
from services.scheduler.clients.registry import Image
from shared.errors import NotFound
from shared.http import RemoteRefusal
from shared.ids import new_id
from shared.tokens import AccountStatus, Role
from tests.identity import TestIdentity
from tests.service.scheduler.conftest import Agent, House


class GatewayToken:
    def __init__(self, identity: TestIdentity) -> None:
        self._identity = identity

    async def get(self) -> str:
        return self._identity.token(username="gateway", role=Role.service)


@pytest.fixture
def directory(house: House) -> Directory:
    return Directory(house.http, GatewayToken(house.identity), fresh_s=0.0)


async def test_the_gateway_learns_where_whose_and_which_apps(
    house: House, agent: Agent, directory: Directory
) -> None:
    rented = await house.rent(agent)
    instance_id = UUID(rented["id"])
    before = await directory.find(instance_id)
    assert not before.running
    await agent.runs(instance_id)
    order = await agent.ordered(instance_id)
    assert await directory.find(instance_id) == AppDoor(
        instance_id=instance_id,
        account_id=house.account_id,
        host="10.0.0.5",
        port=order.app_port,
        token=order.app_token,
        running=True,
        apps=[App(name="jupyterlab", path="lab")],
    )
    assert order.app_token not in repr(before)
    shown = await house.show(rented["id"])
    assert shown["apps"] == [{"name": "jupyterlab", "ready": True}]


async def test_an_owner_is_told_and_nobody_else(
    house: House, agent: Agent, directory: Directory
) -> None:
    instance_id = UUID((await house.rent(agent))["id"])
    mine = house.identity.token(house.account_id)
    assert (await directory.find_as(instance_id, mine)).account_id == house.account_id
    with pytest.raises(RemoteRefusal) as others:
        await directory.find_as(instance_id, house.identity.token())
    assert others.value.status == 404
    pending = house.identity.token(house.account_id, status=AccountStatus.pending)
    with pytest.raises(RemoteRefusal) as refused:
        await directory.find_as(instance_id, pending)
    assert refused.value.status == 403
    with pytest.raises(NotFound):
        await directory.find(new_id())


def test_an_image_names_its_apps_with_their_paths() -> None:
    answer = {
        "id": str(new_id()),
        "name": "jupyter",
        "address": "chusuan/jupyter:1",
        "status": "ready",
        "apps": [{"name": "jupyterlab", "path": "lab"}, {"name": "files", "path": ""}],
    }
    image = Image.model_validate(answer)
    assert [(app.name, app.path) for app in image.apps] == [("jupyterlab", "lab"), ("files", "")]
    for odd in ("/lab", "//evil.example", "https://evil.example", "../x", "a?b", "a b"):
        with pytest.raises(ValueError, match="path"):
            Image.model_validate({**answer, "apps": [{"name": "x", "path": odd}]})


async def test_every_service_lists_the_problems_it_may_answer(house: House) -> None:
    kinds = {kind["code"]: kind for kind in (await house.http.get("/problems.json")).json()}
    assert kinds["gpus_taken"]["status"] == 409
    assert kinds["gpus_taken"]["title"] == {"zh": "GPU 已被占用", "en": "The GPUs are taken"}


async def test_an_image_without_apps_publishes_ssh_alone(house: House, agent: Agent) -> None:
    plain = house.image.model_copy(update={"id": new_id(), "apps": []})
    house.registry.images[plain.id] = plain
    with_apps = await house.rent(agent)
    without = await house.rent(agent, image_id=str(plain.id))
    assert (await agent.ordered(with_apps["id"])).app_port is not None
    assert (await agent.ordered(without["id"])).app_port is None
