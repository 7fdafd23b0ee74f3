"""A RabbitMQ of the tests' own: free ports, a folder of its own, its own port mapper.

It never touches a broker that the machine runs already. Whoever asks for it waits about six
seconds once; `kill` and `start` let a test take it away and bring it back with what it had.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import httpx

from shared.ids import new_id
from tests.ports import free_port as free_port

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
VHOST = "chusuan"
LOGIN, PASSWORD = "platform", "platform-of-the-tests"
STARTS_WITHIN_S = 90.0
# Erlang's schedulers otherwise spin on the cores that the tests need.
CALM = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"


def installed() -> bool:
    return (PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd") is not None


class Broker:
    """url: with the platform's login, which may do everything in the virtual host.
    admin_url: of the management HTTP API, with the same login.
    public_address: where hosts in networks of their own reach it besides; public_url, without a
    login, is what they are told."""

    def __init__(self, *, public_address: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chusuan-broker-"))
        self.public_address = public_address
        self.port, self.admin_port = free_port(), free_port()
        self.url = self.url_for(LOGIN, PASSWORD)
        self.admin_url = f"http://{LOGIN}:{PASSWORD}@127.0.0.1:{self.admin_port}"
        self._epmd_port = free_port()
        self._environment = self._write_files(free_port())
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def public_url(self) -> str:
        return f"amqp://{self.public_address or '127.0.0.1'}:{self.port}/{VHOST}"

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    def url_for(self, login: str, password: str, vhost: str = VHOST) -> str:
        return f"amqp://{login}:{password}@127.0.0.1:{self.port}/{vhost}"

    async def new_vhost(self) -> str:
        """An empty virtual host, so that tests do not hear one another; its URL."""
        name = f"test-{new_id().hex}"
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        async with httpx.AsyncClient(base_url=self.admin_url, trust_env=False) as http:
            (await http.put(f"/api/vhosts/{name}")).raise_for_status()
            answer = await http.put(f"/api/permissions/{name}/{LOGIN}", json=rights)
            answer.raise_for_status()
        return self.url_for(LOGIN, PASSWORD, name)

    async def drop_vhost(self, url: str) -> None:
        async with httpx.AsyncClient(base_url=self.admin_url, trust_env=False) as http:
            await http.delete(f"/api/vhosts/{url.rpartition('/')[2]}")

    @property
    def is_running(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Returns when AMQP and the management API answer."""
        server = self._spawn()
        async with asyncio.timeout(STARTS_WITHIN_S), httpx.AsyncClient(trust_env=False) as http:
            while not await self._answers(http):
                if server.poll() is not None:
                    raise RuntimeError((self.folder / "output").read_text()[-2000:])
                await asyncio.sleep(0.1)

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._epmd is None:
            words = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        with (self.folder / "output").open("ab") as output:
            self._server = server = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return server

    async def _answers(self, http: httpx.AsyncClient) -> bool:
        try:
            answer = await http.get(f"{self.admin_url}/api/health/checks/virtual-hosts")
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (httpx.TransportError, OSError):
            return False
        writer.close()
        return answer.status_code == 200

    async def kill(self) -> None:
        """As a crash: nothing is flushed."""
        await self._end(signal.SIGKILL)

    async def settle(self) -> None:
        """RabbitMQ 3.10 has a new queue's name on disk only some seconds after it said so; a crash
        before that loses the queue. For tests that are not about this."""
        await self.ctl("eval", "[dets:sync(T) || T <- dets:all()], mnesia:sync_log().")

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def _end(self, how: signal.Signals) -> None:
        if self._server is None:
            return
        # The group that `start` made: the shell, Erlang and its children.
        os.killpg(self._server.pid, how)
        await asyncio.to_thread(self._server.wait, 60)
        self._server = None

    async def ctl(self, *words: str) -> str:
        """`rabbitmqctl …` on this broker; what it printed. Raises RuntimeError."""
        done = await asyncio.create_subprocess_exec(
            PROGRAMS / "rabbitmqctl",
            "-q",
            *words,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await done.communicate()
        if done.returncode:
            raise RuntimeError(output.decode())
        return output.decode()

    async def close(self) -> None:
        await self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_files(self, dist_port: int) -> dict[str, str]:
        config = self.folder / "rabbitmq.conf"
        addresses = ["127.0.0.1", *([self.public_address] if self.public_address else [])]
        listeners = "".join(
            f"listeners.tcp.{n} = {address}:{self.port}\n" for n, address in enumerate(addresses, 1)
        )
        config.write_text(
            f"""{listeners}management.tcp.ip = 127.0.0.1
management.tcp.port = {self.admin_port}
default_vhost = {VHOST}
default_user = {LOGIN}
default_pass = {PASSWORD}
default_user_tags.administrator = true
log.file.level = info
"""
        )
        plugins = self.folder / "enabled_plugins"
        plugins.write_text("[rabbitmq_management].\n")
        nothing = self.folder / "rabbitmq-env.conf"
        nothing.touch()
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(nothing),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{CALM} {LOOPBACK_ONLY}",
        }
