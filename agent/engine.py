"""What the agent asks of a container engine; `agent.docker` answers it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pydantic import JsonValue

NEVER_STARTED = "0001-01-01T00:00:00Z"

LABEL_NODE = "chusuan.node"
LABEL_INSTANCE = "chusuan.instance"
LABEL_GENERATION = "chusuan.generation"
LABEL_TOKEN = "chusuan.start_token"  # noqa: S105  a label's name
LABEL_SPEC = "chusuan.spec"
LABEL_DISK = "chusuan.disk"
# On images that came of a container: whose they are when a host's state is cleared away.
LABEL_MADE_ON = "chusuan.made_on"
LABELS = (LABEL_NODE, LABEL_INSTANCE, LABEL_GENERATION, LABEL_TOKEN, LABEL_SPEC, LABEL_DISK)

ContainerConfig = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ContainerFact:
    """One labelled container as the engine sees it.

    disk: how often its system disk moved on from the image: 0 is the image itself.
    started_raw: the engine's own text of its last start, compared for equality only.
    finished_at: of its last end; None while it runs or when it never ran.
    """

    id: str
    name: str
    node_id: UUID
    instance_id: UUID
    generation: int
    token: UUID
    spec: str
    disk: int
    running: bool
    started_raw: str
    finished_at: datetime | None
    exit_code: int
    oom_killed: bool

    @property
    def has_started(self) -> bool:
        return self.started_raw != NEVER_STARTED


@dataclass(frozen=True, slots=True)
class CommittedImage:
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A regular file with what must come back with it."""

    content: bytes
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ContainerChange:
    node_id: UUID
    instance_id: UUID
    action: str


class EngineUnavailable(Exception):
    """No answer: what was asked may or may not have happened."""


class RegistryAway(EngineUnavailable):
    """The engine is there, the image registry is not; the same may be asked again."""


class EngineRefused(Exception):
    """The engine answered no; asking again for the same changes nothing."""


class ImageMissing(EngineRefused):
    """Not on this host."""


class RegistryRefused(EngineRefused):
    """The image registry does not let this host in, or not that far."""


class NameTaken(EngineRefused):
    """A container of that name exists."""


class NotAFile(EngineRefused):
    """There is something else than a regular file under that path."""


Progress = Callable[[float | None, str], None]


class Engine(Protocol):
    """Every call raises EngineUnavailable or EngineRefused; ids and names are interchangeable.
    start, stop, remove and untag are done when it is so already."""

    async def containers(
        self, node_id: UUID, instance_id: UUID | None = None
    ) -> list[ContainerFact]: ...

    async def inspect(self, container: str) -> ContainerFact | None: ...

    async def create(self, name: str, config: ContainerConfig) -> str:
        """Answers the id; raises ImageMissing, NameTaken."""
        ...

    async def start(self, container: str) -> None: ...

    async def stop(self, container: str, grace_s: int) -> None: ...

    async def remove(self, container: str) -> None:
        """Kills it first where it runs."""
        ...

    async def pull(self, image: str, progress: Progress) -> None:
        """image: with a digest too. Raises RegistryAway, also when nothing moves for long;
        ImageMissing where the registry has none, RegistryRefused."""
        ...

    async def push(self, reference: str, progress: Progress) -> CommittedImage:
        """Answers the registry's own digest. What it has already is not sent again. Raises
        RegistryAway, RegistryRefused, ImageMissing where this host has none."""
        ...

    async def commit(self, container: str, reference: str) -> CommittedImage:
        """The image carries none of the agent's labels but LABEL_MADE_ON."""
        ...

    async def untag(self, reference: str) -> None: ...

    async def tags(self, repository: str) -> list[str]: ...

    async def read_file(self, container: str, path: str) -> FileCopy | None: ...

    async def write_file(self, container: str, path: str, file: FileCopy) -> None: ...

    async def ensure_network(self, name: str, bridge: str) -> None: ...

    def changes(self) -> AsyncIterator[ContainerChange]:
        """Starts, ends and removals of labelled containers, until the engine goes away."""
        ...

    async def close(self) -> None: ...
