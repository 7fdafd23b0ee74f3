"""The real scheduler, the agent that joins it, and the image centre that asks who a host is."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from agent.credential import Credential
from agent.joining import JoinError, Token, enter, read_token
from services.registry.clients.scheduler import HttpScheduler
from shared.ids import new_id
from shared.tokens import Role
from tests.service.scheduler.conftest import open_house
from tests.service.scheduler.test_scheduler_joining import Door, door

__all__ = ["door", "open_house"]

AGENT = new_id()


class ServiceToken:
    def __init__(self, door: Door) -> None:
        self._door = door

    async def get(self) -> str:
        words = self._door.house.headers(role=Role.service)["authorization"]
        return words.removeprefix("Bearer ")


@pytest.fixture
async def url(door: Door) -> AsyncIterator[str]:
    """Where the scheduler of the door answers over TCP."""
    app = door.house.http._transport.app  # type: ignore[attr-defined]  # the app under test
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server._serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


async def invited(door: Door, url: str) -> Token:
    answer = await door.operator("POST", "/invitations", {})
    real = read_token(answer.json()["token"])
    document = json.dumps({"u": url, "s": real.s, "c": ""}).encode()
    return read_token(f"csj1.{base64.urlsafe_b64encode(document).decode()}")


async def join(state: Path, token: Token) -> Credential:
    joined = await enter(state, token, agent_id=AGENT, name="gpu-1", region="east-1")
    assert joined is not None
    return joined


async def test_an_agent_joins_and_its_login_is_known_until_it_is_revoked(
    door: Door, url: str, tmp_path: Path
) -> None:
    joined = await join(tmp_path, await invited(door, url))
    shown = await door.node(str(joined.node_id))
    assert (shown["name"], shown["region"]) == ("gpu-1", "east-1")
    assert joined.access is not None
    login, password = joined.access.username, joined.access.password.get_secret_value()
    assert login == joined.source
    assert f"{login}:{password}@" in joined.bus_url.get_secret_value()
    scheduler = HttpScheduler(door.house.http, ServiceToken(door))
    assert await scheduler.knows_node(login, password)
    assert not await scheduler.knows_node(login, password + "x")
    assert not await scheduler.knows_node(f"node.{new_id()}", password)
    answer = await door.operator("POST", f"/{joined.node_id}/revoke")
    assert answer.status_code == 200, answer.text
    assert not await scheduler.knows_node(login, password)


async def test_a_lost_answer_is_cured_by_joining_again_and_another_host_is_refused(
    door: Door, url: str, tmp_path: Path
) -> None:
    token = await invited(door, url)
    first = await join(tmp_path, token)
    (tmp_path / "credential.json").unlink()
    second = await join(tmp_path, token)
    assert second.node_id == first.node_id
    assert second.registry_password != first.registry_password
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(JoinError, match="chusuan nodes invite"):
        await enter(other, token, agent_id=new_id(), name="gpu-2", region="east-1")
