"""What scheduler and registry tell agents, and what agents report: whole states, never deltas.

A lost, doubled or late message costs time only: the next one says everything again. Agents hold
no database, so these do not pass through an outbox.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.events.envelope import Payload


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Gpu(_Part):
    """memory_mib: of the device. simulated: declared in nodes.toml, no hardware behind it."""

    uuid: str
    index: int
    model: str
    memory_mib: int
    healthy: bool = True
    simulated: bool = False


class Inventory(_Part):
    """address: where its published ports are reached by users; app_address: by the gateway.
    port_first..port_last: what may be published, both inclusive."""

    gpus: list[Gpu]
    cpu_model: str
    cpu_cores: float
    memory_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    driver_version: str
    max_cuda: str
    tflops: float = 0.0
    address: str
    app_address: str
    port_first: int
    port_last: int


class SaveOrder(_Part):
    image_id: UUID
    reference: str


class DesiredInstance(_Part):
    """What should be true of one instance.

    generation: fence; an agent refuses a lower one than it has seen.
    start_token: names one start; an agent starts the container once for each, so that what ended
    by itself stays ended, and a restart is a new token.
    gpus: UUIDs of this node's devices; empty in no-card mode.
    ssh_port, app_port: host ports for the container's 22 and 8888; no app_port where the image
    brings no app.
    password_hash: crypt(3) form. ssh_host_key: OpenSSH PEM, one per instance for its life.
    volume_id: whose net disk (the account's id).
    paid_until: by the scheduler's clock, as `issued_at`; cut off from it, the agent stops the
    instance then and keeps everything. None: not limited.
    traceparent: of the request behind this order, where it is traced.
    """

    instance_id: UUID
    name: str
    generation: int
    start_token: UUID
    want: Literal["running", "stopped", "absent"]
    mode: Literal["gpu", "cpu"]
    image: str
    gpus: list[str]
    cpu_cores: float
    memory_bytes: int
    ssh_port: int
    app_port: int | None = None
    env: dict[str, str]
    authorized_keys: list[str]
    password_hash: str
    app_token: str
    ssh_host_key: str
    volume_id: UUID
    paid_until: datetime | None = None
    traceparent: str | None = None
    save: SaveOrder | None = None


class NodeDesired(Payload):
    """scheduler → agent, on every change and every few seconds. `instances` is complete: one that
    the agent has and this list lacks is unknown, and is left alone and reported."""

    type: ClassVar[str] = "scheduler.node.desired"
    node_id: UUID
    issued_at: datetime
    instances: list[DesiredInstance]


class ObservedState(StrEnum):
    absent = "absent"
    pulling = "pulling"
    creating = "creating"
    starting = "starting"
    running = "running"  # SSH answered
    stopping = "stopping"
    stopped = "stopped"
    failed = "failed"  # could not do what was wanted; `message` says why


class EndReason(StrEnum):
    ordered = "ordered"
    shutdown = "shutdown"  # ended from inside
    oom = "oom"
    killed = "killed"
    host_down = "host_down"
    lease = "lease"  # cut off from the scheduler until what was paid for was over


class ObservedSave(_Part):
    image_id: UUID
    state: Literal["saving", "saved", "failed"]
    digest: str = ""
    size_bytes: int = 0
    message: str = ""


class ObservedInstance(_Part):
    """generation, start_token: those of the order this state answers to.
    started_at: when SSH answered, for this start_token. finished_at: Docker's FinishedAt."""

    instance_id: UUID
    generation: int
    start_token: UUID
    state: ObservedState
    started_at: datetime | None = None
    finished_at: datetime | None = None
    end_reason: EndReason | None = None
    exit_code: int | None = None
    progress: float | None = None
    message: str = ""
    save: ObservedSave | None = None


class NodeReported(Payload):
    """agent → scheduler, on every change and as heartbeat. `instances` is complete, unknown
    labelled containers included. labels: given to the agent by whoever runs the host."""

    type: ClassVar[str] = "agent.node.reported"
    node_id: UUID
    name: str
    region: str
    simulated: bool
    boot_id: str
    sequence: int
    reported_at: datetime
    labels: dict[str, str] = Field(default_factory=dict)
    inventory: Inventory
    instances: list[ObservedInstance]


class ImageWanted(_Part):
    """recipe: folder name under `deploy/images`. reference: the tag it gets. builder: the source
    of whose reports it is built, and by nobody else; None: by the first that reports it."""

    image_id: UUID
    recipe: str
    reference: str
    arguments: dict[str, str] = {}
    builder: str | None = None


class ImagesWanted(Payload):
    """registry → agents, on every change and every few seconds; complete. images: for those that
    build, in their order. unwanted: references of deleted images, to be dropped by every host."""

    type: ClassVar[str] = "registry.images.wanted"
    images: list[ImageWanted]
    unwanted: list[str] = Field(default_factory=list)


class ImageReported(Payload):
    """builder agent → registry. progress: 0..1 where known; message: last line or the error."""

    type: ClassVar[str] = "agent.image.reported"
    image_id: UUID
    state: Literal["building", "ready", "failed"]
    progress: float = 0.0
    message: str = ""
    digest: str = ""
    size_bytes: int = 0
