"""The split shape's stores, each real and in a process of its own: PostgreSQL, RabbitMQ, Redis and
the OCI registry. None of them is the machine's own."""

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.people import run
from tests.e2e.waiting import until

STARTS_S = 60


@dataclass
class Daemon:
    """One program. ready: what answers when it is up."""

    name: str
    command: tuple[str, ...]
    ready: tuple[str, ...]
    folder: Path
    process: asyncio.subprocess.Process | None = field(default=None)

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        await until(self._answers, timeout_s=STARTS_S, what=f"{self.name} answers")

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log()[-2000:]
        with contextlib.suppress(AssertionError):
            await run(*self.ready)
            return True
        return False

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None and self.process.returncode is None:
            # Also nginx's worker, which would serve on without its master.
            os.killpg(self.process.pid, number)
            await self.process.wait()


def missing_programs() -> str:
    """What is not installed of them, or nothing."""
    names = ("rabbitmq-server", "redis-server", "docker-registry", "nginx", "curl")
    missing = [name for name in names if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def redis(folder: Path, port: int) -> Daemon:
    command = ("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "")
    return Daemon("redis", command, ("redis-cli", "-p", str(port), "ping"), folder)


REGISTRY = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/blobs}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""


def registry(folder: Path, address: str) -> Daemon:
    """address: where it listens; whoever stands before it asks who may."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "registry.yml"
    config.write_text(REGISTRY.format(folder=folder, address=address))
    ready = ("curl", "-sf", "-o", "/dev/null", f"http://{address}/v2/")
    return Daemon("registry", ("docker-registry", "serve", str(config)), ready, folder)


EDGE = """\
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  server {{
    listen {address};
    client_max_body_size 0;
    location /v2/ {{
      auth_request /may;
      proxy_pass http://{registry};
      proxy_set_header Host $http_host;
      proxy_request_buffering off;
    }}
    location = /may {{
      internal;
      proxy_pass {door}/internal/oci/authorise;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Original-URI $request_uri;
    }}
  }}
}}
"""


def edge(folder: Path, *, address: str, registry: str, door: str) -> Daemon:
    """What `deploy/edge` does for the OCI registry, on plain HTTP. door: who says who may."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(EDGE.format(folder=folder, address=address, registry=registry, door=door))
    ready = ("curl", "-s", "-o", "/dev/null", f"http://{address}/")
    return Daemon("edge", ("nginx", "-c", str(config)), ready, folder)
