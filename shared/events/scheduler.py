"""Facts that the scheduler tells."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from shared.events.envelope import Payload

Mode = Literal["gpu", "cpu"]


class NodeChanged(Payload):
    """All that the market shows of a host, whole, each time any of it changes.

    `gpu_free`: devices that nobody holds and that are healthy. `state`: draining takes nothing
    new; silent is not heard, lost for so long that its runs are settled; removed is gone for good.
    """

    type: ClassVar[str] = "scheduler.node.changed"
    node_id: UUID
    name: str
    region: str
    state: Literal["online", "draining", "silent", "lost", "removed"]
    simulated: bool
    gpu_model: str
    gpu_memory_mib: int
    gpu_total: int
    gpu_free: int
    cpu_model: str
    cpu_cores: float
    memory_bytes: int
    disk_bytes: int
    driver_version: str
    max_cuda: str
    tflops: float


class InstanceStarted(Payload):
    """SSH answered, by the agent's report: from `started_at` on it is billed at the authorised
    price. `authorisation_id` is market's answer to the rent or start call."""

    type: ClassVar[str] = "scheduler.instance.started"
    instance_id: UUID
    account_id: UUID
    authorisation_id: UUID
    mode: Mode
    started_at: datetime


class InstanceStopped(Payload):
    """It runs no more since `stopped_at`, by the agent's report (Docker's FinishedAt)."""

    type: ClassVar[str] = "scheduler.instance.stopped"
    instance_id: UUID
    account_id: UUID
    authorisation_id: UUID
    stopped_at: datetime
    reason: str


class InstanceResumed(Payload):
    """A run that was settled when its host was lost is seen running again: from `started_at` on it
    is billed under a new authorisation on the terms of the old one."""

    type: ClassVar[str] = "scheduler.instance.resumed"
    instance_id: UUID
    account_id: UUID
    old_authorisation_id: UUID
    authorisation_id: UUID
    mode: Mode
    started_at: datetime


class StartAbandoned(Payload):
    """An authorised start never came to running: its hold is void."""

    type: ClassVar[str] = "scheduler.instance.start_abandoned"
    instance_id: UUID
    account_id: UUID
    authorisation_id: UUID
    reason: str


class InstanceReleased(Payload):
    type: ClassVar[str] = "scheduler.instance.released"
    instance_id: UUID
    account_id: UUID


class CredentialsRead(Payload):
    """Somebody was shown an instance's password and app token; the envelope names the actor."""

    type: ClassVar[str] = "scheduler.instance.credentials_read"
    instance_id: UUID
    account_id: UUID


class UsageProven(Payload):
    """These authorisations' instances were seen running until `until`, by the agent's report."""

    type: ClassVar[str] = "scheduler.usage.proven"
    node_id: UUID
    until: datetime
    authorisations: list[UUID]


class InstanceSaved(Payload):
    """The system disk became an image under the reference that registry had given."""

    type: ClassVar[str] = "scheduler.instance.saved"
    instance_id: UUID
    image_id: UUID
    digest: str
    size_bytes: int


class InstanceSaveFailed(Payload):
    type: ClassVar[str] = "scheduler.instance.save_failed"
    instance_id: UUID
    image_id: UUID
    reason: str
