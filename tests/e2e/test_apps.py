"""JupyterLab of an instance, through the gateway's one door."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from shared.ids import new_id
from tests.e2e.doors import rent
from tests.e2e.people import Json, Person, approved
from tests.e2e.platform import RunningPlatform, system_image
from tests.e2e.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


@pytest.fixture
async def lab(platform: RunningPlatform, user: Person) -> AsyncIterator[Json]:
    """A running instance of the Jupyter image."""
    image = await system_image(platform, "jupyter")
    instance = await user.instance_in((await rent(user, image))["id"], "running")
    yield instance
    await user.post(f"/instances/{instance['id']}/release")


async def opened(user: Person, instance: Json, app: str) -> tuple[httpx.AsyncClient, str]:
    """A browser with the door's cookie in it, and the page that came."""
    answer = await user.post(f"/instances/{instance['id']}/apps/{app}")
    browser = httpx.AsyncClient(
        base_url=user.http.base_url, trust_env=False, follow_redirects=True, timeout=30
    )
    page = await browser.get(answer["url"])

    async def there() -> bool:
        # The ticket is used; the cookie opens the address from now on.
        nonlocal page
        page = await browser.get(page.url)
        return page.status_code == 200

    await until(there, timeout_s=60, what=f"{app} answers")
    return browser, page.text


async def test_jupyterlab_opens_and_a_kernel_computes(
    platform: RunningPlatform, user: Person, lab: Json
) -> None:
    browser, page = await opened(user, lab, "jupyterlab")
    assert "JupyterLab" in page
    base = f"/apps/{lab['id']}"
    kernel = (await browser.post(f"{base}/api/kernels", json={"name": "python3"})).json()
    cookies = "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)
    address = f"ws://127.0.0.1:{platform.port}{base}/api/kernels/{kernel['id']}/channels"
    async with connect(
        address, additional_headers={"cookie": cookies}, origin=Origin(platform.url), proxy=None
    ) as socket:
        await socket.send(json.dumps(execute("print(6 * 7)")))
        async with asyncio.timeout(60):
            while True:
                message = json.loads(await socket.recv())
                if message["header"]["msg_type"] == "stream":
                    break
    assert message["content"]["text"] == "42\n"
    await browser.aclose()


def execute(code: str) -> Json:
    header = {"msg_id": new_id().hex, "username": "", "session": new_id().hex, "version": "5.3"}
    return {
        "header": {**header, "msg_type": "execute_request", "date": "2026-01-01T00:00:00Z"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False},
        "channel": "shell",
    }


async def test_the_door_is_closed_to_strangers_and_after_a_stop(
    platform: RunningPlatform, operator: Person, user: Person, lab: Json
) -> None:
    browser, _ = await opened(user, lab, "jupyterlab")
    stranger = await approved(platform.url, operator)
    refused = await stranger.http.post(f"/api/v1/instances/{lab['id']}/apps/jupyterlab")
    assert refused.status_code == 404
    page = f"{platform.url}/apps/{lab['id']}/lab"
    assert (await stranger.http.get(page)).status_code == 401
    await user.post(f"/instances/{lab['id']}/stop")
    await user.instance_in(lab["id"], "stopped")

    async def closed() -> bool:
        return (await browser.get(page)).status_code != 200

    await until(closed, timeout_s=20, what="the door closes with the instance")
    await browser.aclose()
    await stranger.http.aclose()
