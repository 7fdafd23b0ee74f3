"""F8: the Docker Engine itself is killed and started again, with and without `live-restore`.

On an engine of the test's own, with every path under one folder and no rule of iptables; the
machine's own is only asked for the image.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from agent.settings import AgentSettings
from cli.up.docker import forget_dead
from shared.bus import Subscription, open_bus
from shared.ids import new_id
from tests.e2e.waiting import until
from tests.fault.conftest import LONG
from tests.service.agent.conftest import MINIMAL, NODES, Stage, built

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0 or not LONG, reason="make fault, as root"),
]

BRIDGE = "chusuanf8"
# Not `none`: an engine that is told so takes docker0 away, which is the machine's own.
DEFAULT_BRIDGE = "chusuanf8d"


@dataclass
class OwnDocker:
    folder: Path
    live_restore: bool
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> Path:
        return self.folder / "d.sock"

    async def start(self) -> None:
        for words in (
            f"link add {DEFAULT_BRIDGE} type bridge",
            f"addr replace 10.78.8.1/24 dev {DEFAULT_BRIDGE}",
            f"link set {DEFAULT_BRIDGE} up",
        ):
            subprocess.run(["ip", *words.split()], capture_output=True, check=False)
        command = [
            "dockerd", "-H", f"unix://{self.socket}", "--data-root", str(self.folder / "data"),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid"),
            "--iptables=false", "--ip-forward=false", "--ip-masq=false",
            f"--bridge={DEFAULT_BRIDGE}",
            *(["--live-restore"] if self.live_restore else []),
        ]  # fmt: skip
        for number, name in (("pid", "dockerd"), ("exec/containerd/containerd.pid", "containerd")):
            forget_dead(self.folder / number, name)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - returns at once

        async def answers() -> bool:
            return (
                subprocess.run(self._say("info"), capture_output=True, check=False).returncode == 0
            )

        await until(answers, timeout_s=90, what=(self.folder / "log").read_text()[-500:])

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)

    def run(self, *words: str) -> str:
        return subprocess.run(
            self._say(*words), capture_output=True, text=True, check=True
        ).stdout.strip()

    def load(self, image: str) -> None:
        save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        subprocess.run(self._say("load"), stdin=save.stdout, check=True, capture_output=True)
        save.wait()

    def clear(self) -> None:
        """Whatever of it still runs, its bridge, its mounts and its files."""
        subprocess.run(["ip", "link", "del", DEFAULT_BRIDGE], capture_output=True, check=False)
        for found in subprocess.run(
            self._say("ps", "-q"), capture_output=True, text=True, check=False
        ).stdout.split():
            subprocess.run(self._say("rm", "-f", found), capture_output=True, check=False)
        self.end(signal.SIGTERM)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)

    def _say(self, *words: str) -> list[str]:
        return ["docker", "-H", f"unix://{self.socket}", *words]


@asynccontextmanager
async def stage_on(live_restore: bool) -> AsyncIterator[tuple[Stage, OwnDocker]]:
    image = built(MINIMAL)
    home = Path(tempfile.mkdtemp(prefix="chusuan-f8-"))
    engine = OwnDocker(home, live_restore)
    (home / "nodes.toml").write_text(NODES)
    await engine.start()
    try:
        engine.load(image)
        url = f"memory://{new_id()}"
        settings = AgentSettings(
            bus_url=url, docker_host=f"unix://{engine.socket}", state_dir=home / "state",
            run_dir=home / "run", netdisk_root=home / "netdisk", nodes_file=home / "nodes.toml",
            network="chusuan-f8", bridge=BRIDGE, firewall=False, heartbeat_s=0.5,
            ready_timeout_s=60,
        )  # fmt: skip
        stage = Stage(settings, image, open_bus(url), asyncssh.generate_private_key("ssh-ed25519"))
        heard = Subscription("test.reports", ("agent.node.reported",), stage.heard)
        await stage.bus.subscribe(heard)
        await stage.start_agent()
        yield stage, engine
        await stage.end_agent()
        if found := engine.run("ps", "-aq").split():
            engine.run("rm", "-f", *found)
        engine.run("network", "rm", "chusuan-f8")
    finally:
        engine.clear()


@pytest.mark.parametrize("live_restore", [True, False], ids=["live-restore", "plain"])
async def test_the_agent_finds_its_way_after_the_engine_was_killed(live_restore: bool) -> None:
    async with stage_on(live_restore) as (stage, engine):
        order = stage.new_order(ssh_port=23896, app_port=23897)
        await stage.tell(order)
        before = await stage.until_state(order, "running")
        engine.end(signal.SIGKILL)
        await engine.start()
        if live_restore:
            heard = len(stage.reports)

            async def goes_on() -> bool:
                return len(stage.reports) > heard + 3

            await until(goes_on, timeout_s=30, what="reports go on")
            seen = await stage.until_state(order, "running")
            assert seen.started_at == before.started_at
        else:
            ended = await stage.until_state(order, "stopped")
            assert ended.finished_at is not None
        assert len(engine.run("ps", "-aq").split()) == 1
        # It hears events again: what ends now is told at once, and a new start works.
        again = order.model_copy(update={"generation": 2, "start_token": new_id()})
        await stage.tell(again)
        await stage.until_state(again, "running")
        engine.run("kill", engine.run("ps", "-q"))
        await stage.until_state(again, "stopped")
