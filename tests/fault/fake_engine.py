"""A container engine that is only memory, so that a real agent runs in a test at full speed; its
ports answer as SSH does. It outlives the agent, as Docker does."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from agent.engine import (
    LABEL_DISK,
    LABEL_GENERATION,
    LABEL_INSTANCE,
    LABEL_NODE,
    LABEL_SPEC,
    LABEL_TOKEN,
    NEVER_STARTED,
    CommittedImage,
    ContainerChange,
    ContainerConfig,
    ContainerFact,
    EngineUnavailable,
    FileCopy,
    ImageMissing,
    NameTaken,
    Progress,
)
from shared.clock import utc_now
from shared.ids import new_id
from tests.e2e.people import Json
from tests.fault.history import Holding

Server = asyncio.AbstractServer


@dataclass
class FakeContainer:
    id: str
    name: str
    config: dict[str, Any]
    running: bool = False
    started: datetime | None = None
    finished: datetime | None = None
    exit_code: int = 0
    door: Server | None = None

    @property
    def labels(self) -> dict[str, str]:
        return cast("dict[str, str]", self.config["Labels"])

    @property
    def cards(self) -> int:
        values = dict(word.split("=", 1) for word in self.config["Env"])
        return int(values["CHUSUAN_SIMULATED_GPUS"] or 0)

    def fact(self) -> ContainerFact:
        labels = self.labels
        return ContainerFact(
            id=self.id,
            name=self.name,
            node_id=UUID(labels[LABEL_NODE]),
            instance_id=UUID(labels[LABEL_INSTANCE]),
            generation=int(labels[LABEL_GENERATION]),
            token=UUID(labels[LABEL_TOKEN]),
            spec=labels[LABEL_SPEC],
            disk=int(labels[LABEL_DISK]),
            running=self.running,
            started_raw=self.started.isoformat() if self.started else NEVER_STARTED,
            finished_at=None if self.running else self.finished,
            exit_code=self.exit_code,
            oom_killed=False,
        )

    def shown(self) -> Json:
        """As `docker inspect`."""
        finished = self.finished.isoformat() if self.finished else NEVER_STARTED
        return {
            "Id": self.id,
            "Name": self.name,
            "Config": {"Labels": self.labels, "Env": self.config["Env"]},
            "State": {"Running": self.running, "FinishedAt": finished.replace("+00:00", "Z")},
        }


@dataclass
class FakeEngine:
    """trouble: the share of changing calls that get no answer, half of them after their effect.
    held: every time in which a container had a card."""

    chance: random.Random
    trouble: float = 0.0
    all: dict[str, FakeContainer] = field(default_factory=dict)
    held: list[Holding] = field(default_factory=list)
    _heard: list[asyncio.Queue[ContainerChange]] = field(default_factory=list)

    async def containers(
        self, node_id: UUID, instance_id: UUID | None = None
    ) -> list[ContainerFact]:
        facts = [container.fact() for container in self.all.values()]
        return [
            f for f in facts
            if f.node_id == node_id and instance_id in (None, f.instance_id)
        ]  # fmt: skip

    async def inspect(self, container: str) -> ContainerFact | None:
        found = self._find(container)
        return found.fact() if found else None

    async def create(self, name: str, config: ContainerConfig) -> str:
        if self._find(name):
            raise NameTaken(name)
        answer = self._answers()
        made = FakeContainer(new_id().hex, name, cast("dict[str, Any]", config))
        self.all[made.id] = made
        self._get(answer)
        return made.id

    async def start(self, container: str) -> None:
        found = self._there(container)
        answer = self._answers()
        if not found.running:
            found.running, found.started, found.finished = True, utc_now(), None
            instance = UUID(found.labels[LABEL_INSTANCE])
            host = found.labels[LABEL_NODE]
            self.held.append(Holding(host, found.cards, instance, found.started, None))
            port = found.config["HostConfig"]["PortBindings"]["22/tcp"][0]["HostPort"]
            found.door = await asyncio.start_server(_as_ssh, "127.0.0.1", int(port))
            self._tell(found, "start")
        self._get(answer)

    async def stop(self, container: str, grace_s: int) -> None:
        answer = self._answers()
        if found := self._find(container):
            self.ends(found)
        self._get(answer)

    async def remove(self, container: str) -> None:
        answer = self._answers()
        if found := self._find(container):
            self.ends(found)
            del self.all[found.id]
            self._tell(found, "destroy")
        self._get(answer)

    async def pull(self, image: str, progress: Progress) -> None:
        raise ImageMissing(image)

    async def commit(self, container: str, reference: str) -> CommittedImage:
        self._there(container)
        return CommittedImage(f"sha256:{new_id().hex}", 1)

    async def push(self, reference: str, progress: Progress) -> CommittedImage:
        raise ImageMissing(reference)

    async def untag(self, reference: str) -> None:
        pass

    async def tags(self, repository: str) -> list[str]:
        return []

    async def read_file(self, container: str, path: str) -> FileCopy | None:
        return None

    async def write_file(self, container: str, path: str, file: FileCopy) -> None:
        pass

    async def ensure_network(self, name: str, bridge: str) -> None:
        pass

    async def changes(self) -> AsyncIterator[ContainerChange]:
        heard: asyncio.Queue[ContainerChange] = asyncio.Queue()
        self._heard.append(heard)
        try:
            while True:
                yield await heard.get()
        finally:
            self._heard.remove(heard)

    async def close(self) -> None:
        """The agent's connection; the containers go on."""

    # What happens to containers beside the agent.

    def ends(self, found: FakeContainer, exit_code: int = 137) -> None:
        if not found.running:
            return
        found.running, found.finished, found.exit_code = False, utc_now(), exit_code
        self.held = [
            replace(h, end=found.finished)
            if h.end is None and h.instance == UUID(found.labels[LABEL_INSTANCE])
            else h
            for h in self.held
        ]
        if found.door is not None:
            found.door.close()
        self._tell(found, "die")

    def clear(self) -> None:
        for found in list(self.all.values()):
            self.ends(found)

    def _find(self, name: str) -> FakeContainer | None:
        return self.all.get(name) or next((c for c in self.all.values() if c.name == name), None)

    def _there(self, name: str) -> FakeContainer:
        found = self._find(name)
        if found is None:
            raise ImageMissing(f"no container {name}")
        return found

    def _answers(self) -> bool:
        """False: the call takes effect and is not answered. Raises where it takes none."""
        if self.chance.random() >= self.trouble:
            return True
        if self.chance.random() < 0.5:
            raise EngineUnavailable("cut before")
        return False

    def _get(self, answer: bool) -> None:
        if not answer:
            raise EngineUnavailable("cut after")

    def _tell(self, found: FakeContainer, action: str) -> None:
        fact = found.fact()
        for heard in self._heard:
            heard.put_nowait(ContainerChange(fact.node_id, fact.instance_id, action))


async def _as_ssh(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-Fake\r\n")
    await writer.drain()
    writer.close()
