"""The net disk with its SFTP door open, beside the real auth, and people with the stock clients."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from cli.up.postgres import Postgres
from services.auth.main import create_app as create_auth
from services.auth.settings import AuthSettings
from services.storage.main import create_app as create_storage
from services.storage.settings import StorageSettings
from services.storage.sftp.door import SftpDoor
from shared.app import Runtime
from shared.http import open_client
from shared.ids import new_id
from tests.service.auth.conftest import OPERATOR_PASSWORD, Json, bearer, credentials, registration

SECRET = SecretStr("s" * 32)
MIB = 1 << 20
QUOTA = 512 * MIB
QUIET = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-F", "/dev/null",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str


async def run(*command: str, stdin: str = "", timeout_s: float = 60) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(timeout_s):
        output, _ = await process.communicate(stdin.encode())
    return Outcome(process.returncode or 0, output.decode(errors="replace"))


@dataclass
class Disk:
    """Storage and auth, running. root: of storage."""

    app: FastAPI
    http: httpx.AsyncClient
    auth: httpx.AsyncClient
    root: Path

    @property
    def door(self) -> SftpDoor:
        door: SftpDoor = self.app.state.sftp_door
        return door

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.state.runtime
        return runtime

    async def log_in(self, account: Json) -> dict[str, str]:
        answer = await self.auth.post("/api/v1/sessions", json=credentials(account))
        assert answer.status_code == 201, answer.text
        return bearer(answer.json())

    async def operator(self) -> dict[str, str]:
        return await self.log_in({"username": "admin", "password": OPERATOR_PASSWORD})

    async def move(self, account: Json, move: str, **body: str) -> None:
        answer = await self.auth.post(
            f"/api/v1/accounts/{account['id']}/{move}", json=body, headers=await self.operator()
        )
        assert answer.status_code == 200, answer.text

    async def register(self) -> "Person":
        body = registration(f"u{new_id().hex[-12:]}")
        answer = await self.auth.post("/api/v1/accounts", json=body)
        assert answer.status_code == 201, answer.text
        return Person(self, {**answer.json(), "password": body["password"]})

    async def person(self, *, quota_bytes: int | None = None) -> "Person":
        """Approved."""
        person = await self.register()
        await self.move(person.account, "approve")
        if quota_bytes is not None:
            answer = await self.http.put(
                f"/api/v1/storage/volumes/{person.account['id']}",
                json={"quota_bytes": quota_bytes},
                headers=await self.operator(),
            )
            assert answer.status_code == 200, answer.text
        return person

    async def reserved(self) -> int:
        """By all accounts together."""
        async with self.runtime.database.transaction() as session:
            found = await session.execute(text("SELECT sum(reserved_bytes) FROM volumes"))
            return int(found.scalar_one() or 0)


@dataclass
class Person:
    disk: Disk
    account: Json
    key: Path | None = None
    key_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.account["username"])

    @property
    def files(self) -> Path:
        """As their containers see it."""
        return self.disk.root / "volumes" / str(self.account["id"]) / "files"

    async def add_key(self, folder: Path, kind: str = "ed25519") -> Path:
        key = folder / f"{self.name}-{kind}"
        await run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key))
        body = {"name": kind, "public_key": key.with_suffix(".pub").read_text()}
        self.headers = await self.disk.log_in(self.account)
        answer = await self.disk.auth.post("/api/v1/ssh-keys", json=body, headers=self.headers)
        assert answer.status_code == 201, answer.text
        self.key, self.key_id = key, answer.json()["id"]
        return key

    def proof(self, password: str | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What stands before a client's name, and its options."""
        if self.key is not None and password is None:
            return (), ("-i", str(self.key), "-o", "IdentitiesOnly=yes")
        given = password or str(self.account["password"])
        only = (
            "-o",
            "PubkeyAuthentication=no",
            "-o",
            "BatchMode=no",
            "-o",
            "NumberOfPasswordPrompts=1",
        )
        return ("sshpass", "-p", given), only

    @property
    def there(self) -> str:
        return f"{self.name}@127.0.0.1"

    async def sftp(self, *batch: str, password: str | None = None) -> Outcome:
        before, options = self.proof(password)
        return await run(
            *before, "sftp", *QUIET, *options, "-P", str(self.disk.door.port), "-b", "-",
            self.there,
            stdin="".join(f"{line}\n" for line in batch),
        )  # fmt: skip

    async def scp(self, *words: str) -> Outcome:
        before, options = self.proof()
        return await run(
            *before, "scp", *QUIET, *options, "-P", str(self.disk.door.port), *words, timeout_s=240
        )

    async def ssh(self, *words: str) -> Outcome:
        before, options = self.proof()
        return await run(
            *before, "ssh", *QUIET, *options, "-p", str(self.disk.door.port), *words, self.there
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        async with asyncssh.connect(
            "127.0.0.1",
            self.disk.door.port,
            username=self.name,
            password=self.account["password"],
            client_keys=None,
            known_hosts=None,
            config=[],
            agent_path=None,
        ) as connection:
            yield connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncssh.SFTPClient]:
        async with self.connected() as connection, connection.start_sftp_client() as client:
            yield client

    async def usage(self) -> Json:
        headers = await self.disk.log_in(self.account)
        answer = await self.disk.http.get("/api/v1/storage/usage", headers=headers)
        usage: Json = answer.json()
        return usage


@asynccontextmanager
async def serve_auth(database_url: str, folder: Path, bus_url: str) -> AsyncIterator[str]:
    """The real auth on a Unix socket; its URL."""
    password_file = folder / "operator-password"
    password_file.write_text(f"{OPERATOR_PASSWORD}\n")
    settings = AuthSettings(
        database_url=database_url,
        bus_url=bus_url,
        redis_url=f"memory://{new_id()}",
        auth_url="http://127.0.0.1:1",
        service_secret=SECRET,
        signing_key_file=folder / "signing.pem",
        first_operator_password_file=password_file,
        service_secrets={"storage": SECRET},
        failed_logins_per_account=1000,
    )
    socket = folder / "auth.sock"
    config = uvicorn.Config(
        create_auth(settings), uds=str(socket), log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    async with asyncio.timeout(30):
        while not server.started:
            assert not task.done(), "auth did not start"
            await asyncio.sleep(0.01)
    try:
        yield f"unix:{socket}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def open_disk(
    database_url: str, auth_url: str, root: Path, bus_url: str, **changes: Any
) -> AsyncIterator[Disk]:
    values: dict[str, Any] = {
        "database_url": database_url,
        "bus_url": bus_url,
        "redis_url": f"memory://{new_id()}",
        "auth_url": auth_url,
        "service_secret": SECRET,
        "root": root,
        "default_quota_bytes": QUOTA,
        "scan_interval_s": 3600,
        "sftp_port": 0,
        **changes,
    }
    app = create_storage(StorageSettings(**values))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://storage") as http,
        open_client(auth_url) as auth,
    ):
        yield Disk(app, http, auth, root)


@pytest.fixture(scope="module")
async def folder() -> AsyncIterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="chusuan-sftp-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
async def auth_url(postgres: Postgres, folder: Path, bus_url: str) -> AsyncIterator[str]:
    name = f"test_{new_id().hex}"
    await postgres.create_database(name)
    async with serve_auth(postgres.url(name), folder, bus_url) as url:
        yield url


@pytest.fixture(scope="module")
def bus_url() -> str:
    return f"memory://{new_id()}"


@pytest.fixture(scope="module")
async def disk(
    postgres: Postgres, auth_url: str, folder: Path, bus_url: str
) -> AsyncIterator[Disk]:
    name = f"test_{new_id().hex}"
    await postgres.create_database(name)
    async with open_disk(postgres.url(name), auth_url, folder / "storage", bus_url) as opened:
        yield opened


@pytest.fixture
async def user(disk: Disk, tmp_path: Path) -> Person:
    person = await disk.person()
    await person.add_key(tmp_path)
    return person
