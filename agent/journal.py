"""What the agent must remember of each instance over its own death: one file each, on disk
before the act that it speaks of. Knows nothing of Docker."""

import os
from datetime import datetime
from pathlib import Path
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.engine import FileCopy
from shared.crashing import crash_point, crash_points
from shared.events.agent import EndReason, ObservedSave

log = structlog.get_logger(__name__)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Run(_Record):
    """One start. Written before the engine is told to start.

    before: the container's `started_raw` at that time; as long as the engine still says so, the
    start has not happened.
    began: `started_raw` of this run once seen.
    started_at: when SSH answered. ordered_at: when we told it to stop. expired_at: when its lease
    was over, before it was stopped for that.
    """

    token: UUID
    before: str
    boot_id: str
    began: str = ""
    started_at: datetime | None = None
    ordered_at: datetime | None = None
    expired_at: datetime | None = None
    finished_at: datetime | None = None
    end_reason: EndReason | None = None
    exit_code: int | None = None


class Failure(_Record):
    """Why the start named by `token` will not be tried again."""

    token: UUID
    message: str


class Lease(_Record):
    """Until when the instance may run without a newer order. until_s: on the boot-time clock of
    that boot. issued_at: the order's own, by the scheduler's clock."""

    boot_id: str
    until_s: float
    issued_at: datetime


class Kept(_Record):
    """A save that is an image of this host already and must still reach the registry."""

    image_id: UUID
    size_bytes: int


class Entry(_Record):
    """generation, token: of the newest order accepted. disk: of the newest container made.
    erased_at: everything of the instance was removed; kept as a fence against late messages."""

    node_id: UUID
    instance_id: UUID
    generation: int
    token: UUID
    disk: int = 0
    run: Run | None = None
    failure: Failure | None = None
    save: ObservedSave | None = None
    kept: Kept | None = None
    lease: Lease | None = None
    erased_at: datetime | None = None


class _Original(_Record):
    path: str
    content: str
    mode: int
    uid: int
    gid: int


class Originals(_Record):
    """Files that were blanked in a container for saving it, to be put back.
    blanked: what was written instead; a file that differs from it by now is the user's own."""

    container: str
    files: list[_Original]
    blanked: dict[str, str]

    @classmethod
    def of(
        cls, container: str, files: dict[str, FileCopy], blanked: dict[str, bytes]
    ) -> "Originals":
        return cls(
            container=container,
            files=[
                _Original(path=path, content=f.content.hex(), mode=f.mode, uid=f.uid, gid=f.gid)
                for path, f in files.items()
            ],
            blanked={path: content.hex() for path, content in blanked.items()},
        )

    def copies(self) -> dict[str, FileCopy]:
        return {
            f.path: FileCopy(bytes.fromhex(f.content), f.mode, f.uid, f.gid) for f in self.files
        }


class Journal:
    """Blocking: callers in the loop go through a thread."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "instances"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self, node_id: UUID) -> dict[UUID, Entry]:
        """An unreadable file is as good as lost: labels tell the rest."""
        entries: dict[UUID, Entry] = {}
        for path in self._folder.glob("*.json"):
            try:
                entry = Entry.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                log.error("journal_unreadable", path=str(path), error=str(error))
                continue
            if entry.node_id == node_id:
                entries[entry.instance_id] = entry
        return entries

    def write(self, entry: Entry) -> None:
        with crash_points("journal.write"):
            content = entry.model_dump_json().encode()
            write_durably(self._folder / f"{entry.instance_id}.json", content)

    def forget(self, instance_id: UUID) -> None:
        (self._folder / f"{instance_id}.json").unlink(missing_ok=True)

    def write_originals(self, instance_id: UUID, originals: Originals) -> None:
        with crash_points("journal.write_originals"):
            content = originals.model_dump_json().encode()
            write_durably(self._folder / f"{instance_id}.originals", content)

    def originals(self, instance_id: UUID) -> Originals | None:
        try:
            content = (self._folder / f"{instance_id}.originals").read_bytes()
        except FileNotFoundError:
            return None
        return Originals.model_validate_json(content)

    def forget_originals(self, instance_id: UUID) -> None:
        with crash_points("journal.forget_originals"):
            (self._folder / f"{instance_id}.originals").unlink(missing_ok=True)


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """The old content or the new, whole, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    crash_point("journal.replace")
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
