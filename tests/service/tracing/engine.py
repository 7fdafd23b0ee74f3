"""A container engine in memory, whose containers answer SSH's banner on their published port."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import IO, Any, cast
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
    FileCopy,
    Progress,
)
from shared.clock import utc_now


class MemoryEngine:
    def __init__(self) -> None:
        self._configs: dict[str, Any] = {}
        self._started: dict[str, str] = {}
        self._doors: dict[str, asyncio.Server] = {}

    def _fact(self, name: str) -> ContainerFact:
        labels = cast(Mapping[str, str], self._configs[name]["Labels"])
        return ContainerFact(
            id=name,
            name=name,
            node_id=UUID(labels[LABEL_NODE]),
            instance_id=UUID(labels[LABEL_INSTANCE]),
            generation=int(labels[LABEL_GENERATION]),
            token=UUID(labels[LABEL_TOKEN]),
            spec=labels[LABEL_SPEC],
            disk=int(labels[LABEL_DISK]),
            running=name in self._doors,
            started_raw=self._started.get(name, NEVER_STARTED),
            finished_at=None,
            exit_code=0,
            oom_killed=False,
        )

    async def containers(
        self, node_id: UUID, instance_id: UUID | None = None
    ) -> list[ContainerFact]:
        facts = [self._fact(name) for name in self._configs]
        return [f for f in facts if f.node_id == node_id and instance_id in (None, f.instance_id)]

    async def inspect(self, container: str) -> ContainerFact | None:
        return self._fact(container) if container in self._configs else None

    async def create(self, name: str, config: ContainerConfig) -> str:
        self._configs[name] = config
        return name

    async def start(self, container: str) -> None:
        def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-memory\r\n")
            writer.close()

        binding = self._configs[container]["HostConfig"]["PortBindings"]["22/tcp"][0]
        self._doors[container] = await asyncio.start_server(
            greet, binding["HostIp"], int(binding["HostPort"])
        )
        self._started[container] = utc_now().isoformat()

    async def stop(self, container: str, grace_s: int) -> None:
        if (door := self._doors.pop(container, None)) is not None:
            door.close()
            await door.wait_closed()

    async def remove(self, container: str) -> None:
        await self.stop(container, 0)
        self._configs.pop(container, None)

    async def changes(self) -> AsyncIterator[ContainerChange]:
        await asyncio.Event().wait()
        return
        yield

    async def tags(self, repository: str) -> list[str]:
        return []

    async def references(self, pattern: str) -> list[str]:
        return []

    async def image(self, reference: str) -> CommittedImage | None:
        return CommittedImage("sha256:1", 1)

    async def commit(self, container: str, reference: str) -> CommittedImage:
        return CommittedImage("sha256:1", 1)

    async def build(
        self,
        context: IO[bytes],
        reference: str,
        arguments: Mapping[str, str],
        *,
        network: str,
        progress: Progress,
    ) -> CommittedImage:
        return CommittedImage("sha256:1", 1)

    async def pull(self, image: str, progress: Progress) -> None:
        return None

    async def push(self, reference: str, progress: Progress) -> CommittedImage:
        return CommittedImage("sha256:1", 1)

    async def registry_digest(self, reference: str) -> str | None:
        return None

    async def untag(self, reference: str) -> None:
        return None

    async def read_file(self, container: str, path: str) -> FileCopy | None:
        return None

    async def write_file(self, container: str, path: str, file: FileCopy) -> None:
        return None

    async def ensure_network(self, name: str, bridge: str) -> None:
        return None

    async def close(self) -> None:
        for container in list(self._doors):
            await self.stop(container, 0)
