"""JupyterLab, TensorBoard and VS Code, asked as the gateway asks: the token in a header, the
browser's Origin, and a Host that is not the public one."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from shared.events.agent import DesiredInstance
from shared.ids import new_id
from tests.service.agent.conftest import Stage, built, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

ORIGIN = "https://cloud.example.org"
TOKEN = "a-token-of-this-test"


@dataclass
class Apps:
    stage: Stage
    order: DesiredInstance
    http: aiohttp.ClientSession

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.order.app_port}/apps/{self.order.instance_id}/"

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.http.get(self.base + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def status(self, path: str, token: str) -> int:
        """Of the first answer, wherever it sends one."""
        headers = {"Authorization": f"token {token}"}
        url = self.base + path
        async with self.http.get(url, headers=headers, allow_redirects=False) as answer:
            return answer.status

    async def answers(self, path: str, wanted: str, timeout_s: float = 90) -> str:
        """The body, once it holds the words."""
        last: object = None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                status, body = await self.get(path)
                last = (status, body[:500])
                if status == 200 and wanted in body:
                    return body
            except (aiohttp.ClientError, OSError) as error:
                last = error
            await asyncio.sleep(0.1)
        pytest.fail(f"{path}: {last}; {docker('logs', *self.stage.containers(self.order))[-3000:]}")


async def open_apps(stage: Stage, reference: str, **changes: object) -> AsyncIterator[Apps]:
    order = stage.new_order(
        image=built(reference), app_token=TOKEN, memory_bytes=1 << 30, cpu_cores=2.0, **changes
    )
    await stage.tell(order)
    await stage.until_state(order, "running")
    headers = {"Authorization": f"token {TOKEN}", "Origin": ORIGIN}
    async with aiohttp.ClientSession(headers=headers) as http:
        yield Apps(stage, order, http)


@pytest.fixture
async def jupyter(stage: Stage) -> AsyncIterator[Apps]:
    async for apps in open_apps(stage, "chusuan/jupyter:1", env={"STUDY": "LIDC # 1"}):
        yield apps


@pytest.fixture
async def vscode(stage: Stage) -> AsyncIterator[Apps]:
    async for apps in open_apps(stage, "chusuan/vscode:1"):
        yield apps


async def execute(apps: Apps, code: str) -> str:
    """What a fresh kernel answers to `code`, over the WebSocket that a notebook uses."""
    async with apps.http.post(f"{apps.base}api/kernels", json={"name": "python3"}) as made:
        assert made.status == 201, await made.text()
        kernel = (await made.json())["id"]
    address = f"{apps.base}api/kernels/{kernel}/channels"
    async with asyncio.timeout(60), apps.http.ws_connect(address, origin=ORIGIN) as socket:
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        header = {
            "msg_id": new_id().hex, "msg_type": "execute_request", "version": "5.3",
            "username": "", "session": new_id().hex,
        }  # fmt: skip
        await socket.send_json(
            {
                "header": header, "parent_header": {}, "metadata": {}, "content": content,
                "channel": "shell",
            }
        )  # fmt: skip
        async for frame in socket:
            said = frame.json()
            if said["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if said["msg_type"] == "execute_result":
                return str(said["content"]["data"]["text/plain"])
            assert said["msg_type"] != "error", said["content"]
    raise AssertionError("the kernel hung up")


async def test_notebooks_run_behind_the_gateways_path_with_its_token(jupyter: Apps) -> None:
    assert "version" in await jupyter.answers("api", "version")
    assert '"kernels"' in await jupyter.answers("api/status", "kernels")
    page = await jupyter.answers("lab", "JupyterLab")
    assert TOKEN not in page
    assert await execute(jupyter, "1+1") == "2"
    found = await execute(jupyter, "import os, sys; (sys.executable, os.environ['STUDY'])")
    assert found == "('/usr/bin/python3', 'LIDC # 1')"


async def test_without_the_token_nothing_is_shown(jupyter: Apps) -> None:
    await jupyter.answers("api/status", "kernels")
    for path in ("api/status", "api/contents", "tensorboard/", "proxy/22/"):
        # To the login page, forbidden, or hidden, since the Origin is foreign.
        assert await jupyter.status(path, "wrong") in (302, 403, 404), path
    async with aiohttp.ClientSession() as nobody:
        async with nobody.get(f"{jupyter.base}api/contents") as answer:
            assert answer.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await nobody.ws_connect(f"{jupyter.base}terminals/websocket/1", origin=ORIGIN)


async def test_tensorboard_opens_below_the_same_path(jupyter: Apps) -> None:
    await jupyter.answers("api", "version")
    assert "TensorBoard" in await jupyter.answers("tensorboard/", "TensorBoard")
    assert "/root/data/tensorboard" in await jupyter.answers(
        "tensorboard/data/environment", "data_location"
    )


async def test_the_token_is_on_no_command_line_and_on_no_disk_that_a_saved_image_keeps(
    jupyter: Apps,
) -> None:
    await jupyter.answers("api", "version")
    stage, order = jupyter.stage, jupyter.order
    lines = await stage.ssh(order, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "jupyter-lab" in lines
    assert TOKEN not in lines
    changed = await stage.ssh(
        order, f"grep -rlF {TOKEN} / --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev"
        " --exclude-dir=chusuan 2>/dev/null; echo end"
    )  # fmt: skip
    assert changed == "end"


async def test_a_server_that_dies_comes_back(jupyter: Apps) -> None:
    await jupyter.answers("api", "version")
    await jupyter.stage.ssh(jupyter.order, "pkill -KILL -f jupyter-lab")
    with pytest.raises((aiohttp.ClientError, OSError)):
        await jupyter.get("api")
    await jupyter.answers("api", "version")


async def test_vs_code_loads_below_the_gateways_path(vscode: Apps) -> None:
    await vscode.answers("api", "version")
    page = await vscode.answers("vscode/", "workbench")
    script = page.split('src="', 1)[1].split('"', 1)[0]
    async with vscode.http.get(f"{vscode.base}vscode/{script.removeprefix('./')}") as answer:
        assert answer.status == 200, script
    version = page.split("stable-", 1)[1].split("/", 1)[0]
    address = f"{vscode.base}vscode/stable-{version}?type=Management&reconnectionToken={new_id()}"
    async with asyncio.timeout(60), vscode.http.ws_connect(address, origin=ORIGIN) as socket:
        # The first words of the editor's own protocol: a control frame, then the server's.
        hello = json.dumps({"type": "auth", "auth": "0" * 20, "data": "x" * 20}).encode()
        await socket.send_bytes(struct.pack(">BIII", 2, 0, 0, len(hello)) + hello)
        assert b'"type":"sign"' in await socket.receive_bytes()
    assert await vscode.status("vscode/", "wrong") in (302, 403)
