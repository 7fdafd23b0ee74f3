"""The one folder in which the embedded platform keeps its state, and the secrets in it."""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("auth", "storage", "registry", "market", "scheduler")


# A socket's whole path has 107 bytes at most; the longest here is sockets/scheduler.sock.
ROOT_LENGTH = 80


def default_home() -> Path:
    """`CHUSUAN_HOME`, else `/var/lib/chusuan` as root and the user's data folder otherwise."""
    if named := os.environ.get("CHUSUAN_HOME"):
        return Path(named).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/chusuan")
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "chusuan"


@dataclass(frozen=True, slots=True)
class Home:
    """root: 0711, so that PostgreSQL's own user can pass; everything in it is 0700 or 0600."""

    root: Path

    def prepare(self) -> None:
        if len(str(self.root)) > ROOT_LENGTH:
            raise OSError(f"{self.root} is too long for its sockets: choose a shorter CHUSUAN_HOME")
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)
        for folder in (self.sockets, self.secrets, self.storage, self.agent):
            folder.mkdir(mode=0o700, exist_ok=True)
        for name in (*SERVICES, "gateway"):
            self.secret(f"service-{name}")
        if not self.operator_password.exists():
            _write_private(self.operator_password, secrets.token_urlsafe(18) + "\n")

    def secret(self, name: str) -> str:
        """A random value, made at the first call and the same ever after."""
        path = self.secrets / name
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(32))
        return path.read_text().strip()

    def socket(self, service: str) -> Path:
        return self.sockets / f"{service}.sock"

    @property
    def sockets(self) -> Path:
        return self.root / "sockets"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def storage(self) -> Path:
        return self.root / "storage"

    @property
    def agent(self) -> Path:
        return self.root / "agent"

    @property
    def run(self) -> Path:
        """What containers read at their start, secrets included: in memory where that can be."""
        runtime = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", ""))
        if not runtime.is_absolute() or not runtime.is_dir():
            return self.root / "run"
        mark = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        return runtime / f"chusuan-{mark}"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def operator_password(self) -> Path:
        return self.root / "operator-password"


def read_node_ids(agent: Path) -> list[str]:
    """Of the hosts that an agent with this state folder ever was."""
    return [path.read_text().strip() for path in (agent / "nodes").glob("*.id")]


def _write_private(path: Path, content: str) -> None:
    """Whole or not at all, readable by the owner alone from its first byte on."""
    partial = path.with_name(f"{path.name}.partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
