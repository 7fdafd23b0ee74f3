"""What the scheduler reads and answers."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.scheduler.domain.states import MOVES, State
from services.scheduler.models import HistoryEntry, Instance, Node, Words
from services.scheduler.reading import Shown
from services.scheduler.stopping import release_due
from shared.events.scheduler import Mode
from shared.ids import short_name
from shared.text import Language

# No control character; the database takes no NUL, the environment file no line end.
_LINE = r"^[^\x00-\x1f\x7f]*$"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# They steer drivers, loader and login; the platform alone sets them.
_RESERVED = ("NVIDIA_", "CUDA_VISIBLE_DEVICES", "LD_", "CHUSUAN_")

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=_LINE, strip_whitespace=True)
]
Value = Annotated[str, StringConstraints(max_length=4096, pattern=_LINE)]


def _variables(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name[:40]!r}: not a variable name / 不是有效的变量名")
        if name.upper().startswith(_RESERVED):
            raise ValueError(f"{name}: set by the platform / 由平台设置")
    return env


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewInstance(_Input):
    """offer_id: of the host, as the market lists it. env: is there in SSH sessions too."""

    name: Name | None = None
    offer_id: UUID
    gpu_count: Annotated[int, Field(ge=1, le=64, strict=True)]
    image_id: UUID
    billing: Literal["payg"]
    env: Annotated[dict[str, Value], Field(max_length=64), AfterValidator(_variables)] = {}


class StartWish(_Input):
    """mode: cpu starts without GPU, cheaply. wait: where its GPUs are taken, queue for them."""

    mode: Mode
    wait: bool = False


class SaveWish(_Input):
    name: Name


class Nothing(_Input):
    """An empty body."""


class GpuView(BaseModel):
    uuid: str
    index: int


class ImageView(BaseModel):
    id: UUID
    name: str
    address: str


class SshView(BaseModel):
    host: str
    port: int
    username: str
    command: str


class AppView(BaseModel):
    name: str
    ready: bool


class InstanceView(BaseModel):
    """mode stays on record while off; gpu_count through no-card mode. gpus: held now.
    progress: 0..1 of fetching the image, where known."""

    id: UUID
    name: str
    short_name: str
    status: State
    mode: Mode
    stop_reason: str | None
    status_reason: str | None
    progress: float | None
    offer_id: UUID
    node_name: str
    region: str
    simulated: bool
    gpu_model: str
    gpu_count: int
    gpus: list[GpuView]
    cpu_cores: float
    memory_bytes: int
    image: ImageView
    ssh: SshView | None
    apps: list[AppView]
    price_per_hour: Decimal
    gpu_availability: Literal["plenty", "scarce", "none"] | None
    allowed_actions: list[str]
    env: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    stopped_at: datetime | None
    released_at: datetime | None
    release_due_at: datetime | None

    @classmethod
    def of(cls, shown: Shown, language: Language, retention_s: float) -> Self:
        instance, node = shown.instance, shown.node
        state = State(instance.state)
        return cls.model_validate(
            {
                "id": instance.id,
                "name": instance.name,
                "short_name": short_name(instance.id),
                "status": state,
                "mode": instance.mode,
                "stop_reason": instance.stop_reason,
                "status_reason": _said(instance.status_reason, language),
                "progress": instance.progress,
                "offer_id": node.id,
                "node_name": node.name,
                "region": node.region,
                "simulated": node.simulated,
                "gpu_model": shown.gpu_model,
                "gpu_count": instance.gpu_count,
                "gpus": [{"uuid": gpu.uuid, "index": gpu.index} for gpu in shown.gpus],
                "cpu_cores": instance.cpu_cores,
                "memory_bytes": instance.memory_bytes,
                "image": {
                    "id": instance.image_id,
                    "name": instance.image_name,
                    "address": instance.image_address,
                },
                "ssh": _ssh(instance, node) if state is not State.released else None,
                "apps": [
                    {"name": a["name"], "ready": _runs(instance)} for a in instance.image_apps
                ],
                "price_per_hour": instance.price_per_hour.quantize(Decimal("0.0001")),
                "gpu_availability": shown.gpu_availability,
                "allowed_actions": [move.value for move in MOVES[state]],
                "env": instance.env,
                "created_at": instance.created_at,
                "started_at": instance.started_at,
                "stopped_at": instance.stopped_at,
                "released_at": instance.released_at,
                "release_due_at": release_due(instance, retention_s),
            }
        )


def _said(words: Words | None, language: Language) -> str | None:
    return words[language] if words is not None else None


def _runs(instance: Instance) -> bool:
    if instance.state == State.lost.value:
        return False
    return State.running.value in (instance.state, instance.resume)


def _ssh(instance: Instance, node: Node) -> dict[str, object]:
    return {
        "host": node.address,
        "port": instance.ssh_port,
        "username": "root",
        "command": f"ssh -p {instance.ssh_port} root@{node.address}",
    }


class CredentialsView(BaseModel):
    password: str
    app_token: str

    @classmethod
    def of(cls, instance: Instance) -> Self:
        return cls(password=instance.password, app_token=instance.app_token)


class EventView(BaseModel):
    """actor_id: None when the platform did it."""

    id: UUID
    at: datetime
    from_status: State | None
    to_status: State
    cause: str
    reason: str | None
    actor_id: UUID | None

    @classmethod
    def of(cls, entry: HistoryEntry, language: Language) -> Self:
        return cls(
            id=entry.id,
            at=entry.at,
            from_status=State(entry.from_state) if entry.from_state is not None else None,
            to_status=State(entry.to_state),
            cause=entry.cause,
            reason=_said(entry.reason, language),
            actor_id=entry.actor_id,
        )


class AppPathView(BaseModel):
    """path: what a browser opens, beneath the instance's own root."""

    name: str
    path: str


class AppDoorView(BaseModel):
    """account_id: whose instance it is. host, port: where the gateway reaches what it serves."""

    instance_id: UUID
    account_id: UUID
    host: str
    port: int
    token: str
    running: bool
    apps: list[AppPathView]

    @classmethod
    def of(cls, instance: Instance, node: Node) -> Self:
        return cls(
            instance_id=instance.id,
            account_id=instance.account_id,
            host=node.app_address,
            port=instance.app_port,
            token=instance.app_token,
            running=_runs(instance),
            apps=[AppPathView.model_validate(app) for app in instance.image_apps],
        )
