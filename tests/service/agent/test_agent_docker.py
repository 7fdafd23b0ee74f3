"""The agent's whole duty against a real Docker Engine, sshd included."""

import asyncio
import json

import pytest

from agent.docker import DockerEngine
from agent.engine import LABEL_MADE_ON
from agent.neighbours import ASK_AGAIN_MS, NEIGHBOURS
from shared.events.agent import DesiredInstance, EndReason, SaveOrder
from shared.ids import new_id
from tests.service.agent.conftest import Stage, docker

pytestmark = pytest.mark.docker


def again(order: DesiredInstance, **changes: object) -> DesiredInstance:
    return order.model_copy(update={"generation": order.generation + 1, **changes})


async def test_an_ordered_instance_answers_ssh_with_its_variables(stage: Stage) -> None:
    order = stage.new_order()
    await stage.tell(order)
    running = await stage.until_state(order, "running")
    assert running.started_at is not None
    assert await stage.ssh(order, "echo $GREETING") == "你好 world"
    assert await stage.ssh(order, "cat /run/chusuan/mode") == "gpu"
    assert await stage.ssh(order, "touch /run/chusuan/x || echo no") == "no"
    await stage.ssh(order, "echo kept > /root/netdisk/file")
    volume = stage.settings.netdisk_root / "volumes" / str(order.volume_id) / "files"
    assert (volume / "file").read_text() == "kept\n"


async def test_early_knocks_do_not_delay_the_first_answer(stage: Stage) -> None:
    bridge = NEIGHBOURS / stage.settings.bridge
    assert int((bridge / "retrans_time_ms").read_text()) == ASK_AGAIN_MS


async def test_stop_reports_dockers_end_and_a_new_token_starts_the_same_disk(stage: Stage) -> None:
    order = stage.new_order()
    await stage.tell(order)
    await stage.until_state(order, "running")
    await stage.ssh(order, "echo mine > /root/note")
    stop = again(order, want="stopped")
    await stage.tell(stop)
    stopped = await stage.until_state(stop, "stopped")
    assert stopped.end_reason == EndReason.ordered
    assert stopped.started_at is not None
    assert stopped.finished_at is not None
    assert stopped.finished_at > stopped.started_at
    cpu = again(stop, want="running", mode="cpu", gpus=[], cpu_cores=0.5, start_token=new_id())
    await stage.tell(cpu)
    await stage.until_state(cpu, "running")
    assert await stage.ssh(cpu, "cat /root/note; cat /run/chusuan/mode") == "mine\ncpu"
    assert len(stage.containers(order)) == 1
    back = again(cpu, mode="gpu", gpus=["GPU-b"], cpu_cores=8.0, start_token=new_id())
    await stage.tell(back)
    await stage.until_state(back, "running")
    assert await stage.ssh(back, "cat /root/note") == "mine"
    assert len(docker("images", "-q", f"chusuan-disk/{order.instance_id.hex}").split()) == 1
    await stage.tell(again(back, want="absent"))
    await stage.until(order.instance_id, lambda o: o.state == "absent")
    assert stage.containers(order) == []
    assert docker("images", "-q", f"chusuan-disk/{order.instance_id.hex}") == ""
    assert not (stage.settings.state_dir / "data" / str(order.instance_id)).exists()


async def test_what_ended_by_itself_stays_ended_also_over_an_agent_restart(stage: Stage) -> None:
    order = stage.new_order()
    await stage.tell(order)
    await stage.until_state(order, "running")
    docker("kill", stage.containers(order)[0])
    ended = await stage.until_state(order, "stopped")
    assert ended.end_reason == EndReason.killed
    await stage.end_agent()
    await stage.start_agent()
    await stage.tell(order)
    await stage.until_state(order, "stopped")
    assert docker("inspect", "-f", "{{.State.Running}}", *stage.containers(order)) == "false"


async def test_a_restarted_agent_adopts_and_a_lost_journal_does_not_matter(stage: Stage) -> None:
    order = stage.new_order()
    await stage.tell(order)
    first = await stage.until_state(order, "running")
    started = docker("inspect", "-f", "{{.State.StartedAt}}", *stage.containers(order))
    await stage.end_agent()
    await stage.start_agent()
    await stage.tell(order)
    assert (await stage.until_state(order, "running")).started_at == first.started_at
    await stage.end_agent()
    (stage.settings.state_dir / "instances" / f"{order.instance_id}.json").unlink()
    await stage.start_agent()
    await stage.tell(order)
    await stage.until(order.instance_id, lambda o: o.started_at is not None)
    now = docker("inspect", "-f", "{{.State.StartedAt}}", *stage.containers(order))
    assert now == started


async def test_an_older_generation_has_no_effect(stage: Stage) -> None:
    order = stage.new_order(generation=5)
    await stage.tell(order)
    await stage.until_state(order, "running")
    await stage.tell(order.model_copy(update={"generation": 4, "want": "absent"}))
    await stage.tell(order)
    await stage.until_state(order, "running")
    assert len(stage.containers(order)) == 1


async def test_a_saved_image_holds_no_secret_and_the_instance_keeps_its_own(stage: Stage) -> None:
    order = stage.new_order()
    await stage.tell(order)
    await stage.until_state(order, "running")
    await stage.ssh(order, "mkdir -p /root/.ssh; echo own > /root/.ssh/authorized_keys; touch /x")
    reference = f"chusuan-test/saved:{order.instance_id.hex}"
    save = SaveOrder(image_id=new_id(), reference=reference)
    await stage.tell(again(order, save=save))
    saved = await stage.until(
        order.instance_id, lambda o: o.save is not None and o.save.state != "saving"
    )
    try:
        assert saved.save is not None
        assert saved.save.state == "saved", saved.save.message
        assert saved.save.digest == docker("image", "inspect", "-f", "{{.Id}}", reference)
        inside = docker(
            "run", "--rm", "--entrypoint", "sh", reference, "-c",
            "grep ^root: /etc/shadow | cut -d: -f2; cat /root/.ssh/authorized_keys; ls /x",
        )  # fmt: skip
        assert inside == "*\n/x"
        labels = json.loads(docker("image", "inspect", "-f", "{{json .Config.Labels}}", reference))
        kept = {k: v for k, v in labels.items() if k.startswith("chusuan.") and v}
        assert kept == {LABEL_MADE_ON: str(stage.reports[-1].node_id)}
    finally:
        docker("rmi", "-f", reference)
    assert await stage.ssh(order, "cat /root/.ssh/authorized_keys") == "own"
    assert (await stage.ssh(order, "grep ^root: /etc/shadow")).split(":")[1] == "$6$x$y"


async def test_an_image_that_is_nowhere_fails_with_its_name(stage: Stage) -> None:
    order = stage.new_order(image="127.0.0.1:9/nobody/nothing:1")
    await stage.tell(order)
    failed = await stage.until_state(order, "failed")
    assert "127.0.0.1:9/nobody/nothing:1" in failed.message


async def test_a_port_in_use_fails_and_the_next_token_succeeds(stage: Stage) -> None:
    holder = stage.new_order()
    await stage.tell(holder)
    await stage.until_state(holder, "running")
    order = stage.new_order(ssh_port=holder.ssh_port)
    await stage.tell(order)
    failed = await stage.until_state(order, "failed")
    assert "port" in failed.message
    cured = again(order, ssh_port=23890, start_token=new_id())
    await stage.tell(cured)
    await stage.until_state(cured, "running")


async def test_an_unknown_labelled_container_is_reported_and_left_alone(stage: Stage) -> None:
    order = stage.new_order()
    await stage.tell(order)
    await stage.until_state(order, "running")
    await stage.end_agent()
    (stage.settings.state_dir / "instances" / f"{order.instance_id}.json").unlink()
    await stage.start_agent()
    stage.orders.pop(order.instance_id)
    await stage.tell()
    seen = await stage.until(order.instance_id, lambda o: o.state == "running")
    assert seen.generation == order.generation
    assert len(stage.containers(order)) == 1
    stage.orders[order.instance_id] = order


async def test_events_can_be_subscribed_again_after_they_ended(stage: Stage) -> None:
    engine = DockerEngine()
    order = stage.new_order()
    await stage.tell(order)
    await stage.until_state(order, "running")
    for _ in range(2):
        changes = engine.changes()
        pending = anext(changes)
        container = stage.containers(order)[0]
        waiting = asyncio.ensure_future(pending)
        while not waiting.done():
            docker("restart", "-t", "0", container)
            await asyncio.wait([waiting], timeout=1)
        assert waiting.result().instance_id == order.instance_id
        await changes.aclose()  # type: ignore[attr-defined]
    await engine.close()
