"""The engine that is Docker, through aiodocker."""

import asyncio
import contextlib
import io
import json
import re
import tarfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import aiodocker
import aiohttp
import structlog
from aiodocker.events import DockerEvents

from agent.answers import answers
from agent.engine import (
    LABEL_DISK,
    LABEL_GENERATION,
    LABEL_INSTANCE,
    LABEL_MADE_ON,
    LABEL_NODE,
    LABEL_SPEC,
    LABEL_TOKEN,
    LABELS,
    NEVER_STARTED,
    CommittedImage,
    ContainerChange,
    ContainerConfig,
    ContainerFact,
    EngineRefused,
    FileCopy,
    ImageMissing,
    NameTaken,
    NotAFile,
    Progress,
)
from agent.transfer import RegistryAccess, Transfer
from shared.crashing import crash_points

log = structlog.get_logger(__name__)

TIMEOUT_S = 60.0
COMMIT_TIMEOUT_S = 3600.0
FILE_LIMIT_BYTES = 1 << 20
WATCHED = ["start", "die", "destroy", "oom"]


class DockerEngine:
    def __init__(self, docker_host: str = "", access: RegistryAccess | None = None) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=5)
        self._docker = aiodocker.Docker(url=docker_host or None, timeout=timeout)
        self._transfer = Transfer(self._docker, access)

    async def containers(
        self, node_id: UUID, instance_id: UUID | None = None
    ) -> list[ContainerFact]:
        labels = [f"{LABEL_NODE}={node_id}"]
        if instance_id is not None:
            labels.append(f"{LABEL_INSTANCE}={instance_id}")
        with answers():
            found = await self._docker.containers.list(
                all=True, filters=json.dumps({"label": labels})
            )
        facts = [await self.inspect(container.id) for container in found]
        return [fact for fact in facts if fact is not None]

    async def inspect(self, container: str) -> ContainerFact | None:
        try:
            with answers():
                shown = await self._docker.containers.container(container).show()
        except ImageMissing:
            return None
        return _fact(shown)

    async def create(self, name: str, config: ContainerConfig) -> str:
        try:
            with answers(), crash_points("docker.create"):
                return (await self._docker.containers.create(config, name=name)).id
        except NameTaken:
            raise
        except ImageMissing as error:
            # A missing network is answered with the same number.
            if "image" not in str(error).lower():
                raise EngineRefused(str(error)) from error
            raise

    async def start(self, container: str) -> None:
        with answers(), crash_points("docker.start"):
            await self._docker.containers.container(container).start()

    async def stop(self, container: str, grace_s: int) -> None:
        with answers(), contextlib.suppress(ImageMissing), crash_points("docker.stop"):
            async with asyncio.timeout(grace_s + TIMEOUT_S):
                await self._docker.containers.container(container).stop(t=grace_s)

    async def remove(self, container: str) -> None:
        with contextlib.suppress(ImageMissing), answers(), crash_points("docker.remove"):
            await self._docker.containers.container(container).delete(force=True, v=True)

    async def pull(self, image: str, progress: Progress) -> None:
        await self._transfer.pull(image, progress)

    async def push(self, reference: str, progress: Progress) -> CommittedImage:
        return await self._transfer.push(reference, progress)

    async def commit(self, container: str, reference: str) -> CommittedImage:
        repository, _, tag = reference.rpartition(":")
        if not repository or "/" in tag:
            repository, tag = reference, "latest"
        source = self._docker.containers.container(container)
        with answers(), crash_points("docker.commit"):
            labels = (await source.show())["Config"].get("Labels") or {}
            answer = await source.commit(
                repository=repository,
                tag=tag,
                # Docker merges this over the container's own; nothing can be taken out.
                config={
                    "Labels": {
                        **dict.fromkeys(LABELS, ""),
                        LABEL_MADE_ON: labels.get(LABEL_NODE, ""),
                    },
                    "Env": ["CHUSUAN_SIMULATED_GPUS=", "NVIDIA_VISIBLE_DEVICES=void"],
                },
                timeout=aiohttp.ClientTimeout(total=COMMIT_TIMEOUT_S),
            )
            shown = await self._docker.images.inspect(answer["Id"])
        return CommittedImage(answer["Id"], int(shown["Size"]))

    async def untag(self, reference: str) -> None:
        with contextlib.suppress(ImageMissing), answers(), crash_points("docker.untag"):
            await self._docker.images.delete(reference, force=True)

    async def tags(self, repository: str) -> list[str]:
        with answers():
            images = await self._docker.images.list(filters={"reference": [f"{repository}:*"]})
        return [t for i in images for t in i.get("RepoTags") or [] if t.startswith(repository)]

    async def read_file(self, container: str, path: str) -> FileCopy | None:
        try:
            with answers():
                archive = await self._docker.containers.container(container).get_archive(path)
        except ImageMissing:
            return None
        member = next(iter(archive.getmembers()), None)
        if member is None or not member.isreg() or member.size > FILE_LIMIT_BYTES:
            raise NotAFile(f"{path} is not a regular file of at most 1 MiB")
        content = archive.extractfile(member)
        return FileCopy(content.read() if content else b"", member.mode, member.uid, member.gid)

    async def write_file(self, container: str, path: str, file: FileCopy) -> None:
        target = PurePosixPath(path)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(target.name)
            member.size, member.mode = len(file.content), file.mode
            member.uid, member.gid = file.uid, file.gid
            archive.addfile(member, io.BytesIO(file.content))
        with answers(), crash_points("docker.write_file"):
            await self._docker.containers.container(container).put_archive(  # type: ignore[no-untyped-call]  # aiodocker
                str(target.parent), buffer.getvalue()
            )

    async def ensure_network(self, name: str, bridge: str) -> None:
        with answers():
            found = await self._docker.networks.list(filters={"name": [f"^{name}$"]})
            if found:
                return
            await self._docker.networks.create(
                {
                    "Name": name,
                    "Driver": "bridge",
                    "CheckDuplicate": True,
                    "Options": {
                        "com.docker.network.bridge.name": bridge,
                        "com.docker.network.bridge.enable_icc": "false",
                    },
                }
            )

    async def changes(self) -> AsyncIterator[ContainerChange]:
        # An object of its own each time: a second subscription on one stays mute after the end.
        events = DockerEvents(self._docker)  # type: ignore[no-untyped-call]  # aiodocker
        subscriber = events.subscribe(  # type: ignore[no-untyped-call]  # aiodocker
            filters=json.dumps({"type": ["container"], "event": WATCHED, "label": [LABEL_NODE]})
        )
        try:
            while (event := await subscriber.get()) is not None:
                labels = event.get("Actor", {}).get("Attributes", {})
                with contextlib.suppress(KeyError, ValueError):
                    yield ContainerChange(
                        UUID(labels[LABEL_NODE]), UUID(labels[LABEL_INSTANCE]), event["Action"]
                    )
        finally:
            with contextlib.suppress(aiodocker.DockerError, aiohttp.ClientError, OSError):
                await events.stop()  # type: ignore[no-untyped-call]  # aiodocker

    async def close(self) -> None:
        await self._docker.close()


def _fact(shown: dict[str, Any]) -> ContainerFact | None:
    labels = shown["Config"].get("Labels") or {}
    state = shown["State"]
    try:
        return ContainerFact(
            id=shown["Id"],
            name=shown["Name"].removeprefix("/"),
            node_id=UUID(labels[LABEL_NODE]),
            instance_id=UUID(labels[LABEL_INSTANCE]),
            generation=int(labels[LABEL_GENERATION]),
            token=UUID(labels[LABEL_TOKEN]),
            spec=labels[LABEL_SPEC],
            disk=int(labels[LABEL_DISK]),
            running=bool(state["Running"]),
            started_raw=state["StartedAt"] or NEVER_STARTED,
            finished_at=None if state["Running"] else parse_time(state["FinishedAt"]),
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
        )
    except (KeyError, ValueError) as error:
        log.warning("foreign_container", container=shown["Id"], error=repr(error))
        return None


def parse_time(raw: str) -> datetime | None:
    """Docker's RFC 3339 with nanoseconds; None for its year 1."""
    if not raw or raw == NEVER_STARTED:
        return None
    found = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", raw)
    if found is None:
        raise ValueError(f"not a time of Docker's: {raw!r}")
    seconds, fraction, zone = found.groups()
    text = f"{seconds}.{(fraction or '0')[:6]:0<6}{'+00:00' if zone == 'Z' else zone}"
    return datetime.fromisoformat(text).astimezone(UTC)
