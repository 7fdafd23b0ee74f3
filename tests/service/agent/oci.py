"""A real OCI registry on this machine, with a login, that a test may kill and start again."""

import asyncio
import os
import shutil
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import httpx
import pytest

from services.registry.clients.oci import MANIFESTS

CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
"""
PROGRAM = "docker-registry"


@dataclass
class OciRegistry:
    folder: Path
    user: str
    password: str = "secret"
    address: str = field(init=False)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        if shutil.which(PROGRAM) is None:
            pytest.skip(f"no {PROGRAM}: apt-get install {PROGRAM}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode()
        (self.folder / "htpasswd").write_text(f"{self.user}:{hashed}\n")
        config = CONFIG.format(folder=self.folder, address=self.address)
        (self.folder / "config.yml").write_text(config)

    def client(self) -> httpx.AsyncClient:
        auth = httpx.BasicAuth(self.user, self.password)
        return httpx.AsyncClient(base_url=f"http://{self.address}", auth=auth, trust_env=False)

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM,
            "serve",
            str(self.folder / "config.yml"),
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(20), self.client() as http:
            while True:
                try:
                    if (await http.get("/v2/")).status_code == 200:
                        return
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()
            self.process = None

    async def digest(self, reference: str) -> str | None:
        """Of what stands under that tag."""
        name, _, tag = reference.removeprefix(f"{self.address}/").rpartition(":")
        async with self.client() as http:
            answer = await http.head(
                f"/v2/{name}/manifests/{tag}", headers={"accept": ", ".join(MANIFESTS)}
            )
        return answer.headers["docker-content-digest"] if answer.status_code == 200 else None
