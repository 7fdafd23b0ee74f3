"""Who is logged in at which gateway: tokens in one private file, shared by parallel commands."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "sessions.json"


@dataclass(frozen=True, slots=True)
class Login:
    """expires_at: seconds since the epoch, of the access token."""

    username: str
    access_token: str
    refresh_token: str
    expires_at: float


def config_folder() -> Path:
    """`$XDG_CONFIG_HOME/chusuan`, else `~/.config/chusuan`."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "chusuan"


class SessionStore:
    """One login per gateway address, so that a token never travels to another platform."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def current_url(self) -> str | None:
        """Where the last login went."""
        current = self._read().get("current")
        return current if isinstance(current, str) else None

    def load(self, url: str) -> Login | None:
        logins = self._read().get("logins")
        found = logins.get(url) if isinstance(logins, dict) else None
        if not isinstance(found, dict):
            return None
        try:
            return Login(**found)
        except TypeError:  # written by another version: log in again
            return None

    def save(self, url: str, login: Login) -> None:
        self._write(url, asdict(login))

    def forget(self, url: str) -> None:
        self._write(url, None)

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """One command at a time: a refresh token works once."""
        with self._locked("refresh.lock"):
            yield

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads((self.folder / FILE).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, url: str, login: dict[str, object] | None) -> None:
        with self._locked("write.lock"):
            content = self._read()
            known = content.get("logins")
            logins = {**known} if isinstance(known, dict) else {}
            if login is None:
                logins.pop(url, None)
            else:
                logins[url] = login
                content["current"] = url
            content["logins"] = logins
            partial = self.folder / f"{FILE}.partial"
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                os.fchmod(handle, 0o600)
                json.dump(content, file, indent=1)
            partial.rename(self.folder / FILE)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
