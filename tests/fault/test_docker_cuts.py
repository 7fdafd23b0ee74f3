"""F9: Docker takes a call and never answers, or the answer is cut off after the effect."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

import agent.docker
from agent.settings import AgentSettings
from cli.up.docker import SOCKET
from shared.bus import Subscription, open_bus
from shared.ids import new_id
from tests.e2e.waiting import until
from tests.fault.proxy import Proxy, open_proxy
from tests.service.agent.conftest import MINIMAL, NODES, Stage, built, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture
async def cut_stage() -> AsyncIterator[tuple[Stage, Proxy]]:
    """An agent that reaches Docker through a proxy."""
    image = built(MINIMAL)
    home = Path(tempfile.mkdtemp(prefix="chusuan-cut-"))
    (home / "nodes.toml").write_text(NODES)
    url = f"memory://{new_id()}"
    settings = AgentSettings(
        bus_url=url,
        docker_host=f"unix://{home}/docker.sock",
        state_dir=home / "state",
        run_dir=home / "run",
        netdisk_root=home / "netdisk",
        nodes_file=home / "nodes.toml",
        network="chusuan-test",
        bridge="chusuantest0",
        heartbeat_s=0.5,
        ready_timeout_s=30,
    )
    place = Stage(settings, image, open_bus(url), asyncssh.generate_private_key("ssh-ed25519"))
    await place.bus.subscribe(Subscription("test.reports", ("agent.node.reported",), place.heard))
    async with open_proxy(home / "docker.sock", SOCKET) as proxy:
        await place.start_agent()
        yield place, proxy
        proxy.heal()
        await place.end_agent()
    for order in place.orders.values():
        for container in place.containers(order):
            docker("rm", "-f", container)
    shutil.rmtree(home)


@pytest.mark.parametrize(
    "call",
    [b"/containers/create", b"/start", b"/stop", b"DELETE /v"],
    ids=["create", "start", "stop", "remove"],
)
async def test_a_call_whose_answer_is_cut_off_has_its_effect_once(
    cut_stage: tuple[Stage, Proxy], call: bytes
) -> None:
    stage, proxy = cut_stage
    proxy.cut_at(call, "answer", times=2)
    order = stage.new_order(ssh_port=23890, app_port=23891)
    await stage.tell(order)
    running = await stage.until_state(order, "running")
    assert len(stage.containers(order)) == 1
    stopped = order.model_copy(update={"generation": 2, "want": "stopped"})
    await stage.tell(stopped)
    seen = await stage.until_state(stopped, "stopped")
    assert seen.started_at == running.started_at
    assert seen.end_reason == "ordered"
    gone = order.model_copy(update={"generation": 3, "want": "absent"})
    await stage.tell(gone)
    await stage.until_state(gone, "absent")
    assert stage.containers(order) == []
    assert proxy.cuts >= 1


async def test_a_docker_that_hangs_is_waited_for_while_the_agent_goes_on_reporting(
    cut_stage: tuple[Stage, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.docker, "TIMEOUT_S", 2.0)
    stage, proxy = cut_stage
    await stage.end_agent()
    await stage.start_agent()
    order = stage.new_order(ssh_port=23892, app_port=23893)
    await stage.tell(order)
    await stage.until_state(order, "running")
    proxy.hang()
    stopped = order.model_copy(update={"generation": 2, "want": "stopped"})
    await stage.tell(stopped)
    heard = len(stage.reports)

    async def goes_on() -> bool:
        return len(stage.reports) > heard + 5

    await until(goes_on, timeout_s=30, what="reports come while Docker hangs")
    proxy.heal()
    await stage.until_state(stopped, "stopped")
    assert len(stage.containers(order)) == 1
