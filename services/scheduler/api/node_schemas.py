"""What is read and answered of nodes."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.scheduler.api.schemas import Name
from services.scheduler.domain.node_states import shown_state
from services.scheduler.inviting import Guest, Invited
from services.scheduler.joining import Join, Joined
from services.scheduler.models import Breaker, Gpu
from services.scheduler.reading import ShownNode
from shared.pagination import Page

DAY_S = 86400
_PLAIN = r"^[\x21-\x7e]+$"


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewInvitation(_Input):
    """name, region: what the node is called; left out, as its agent says."""

    name: Name | None = None
    region: Name | None = None
    expires_in_s: Annotated[int, Field(ge=60, le=30 * DAY_S, strict=True)] = DAY_S

    def guest(self) -> Guest:
        return Guest(self.name, self.region, self.expires_in_s)


class InvitationView(BaseModel):
    """token: shown this once. command: for the host."""

    id: UUID
    token: str
    command: str
    expires_at: datetime

    @classmethod
    def of(cls, made: Invited) -> Self:
        return cls(
            id=made.invitation.id,
            token=made.token,
            command=f"chusuan agent --join {made.token}",
            expires_at=made.invitation.expires_at,
        )


class JoinWish(_Input):
    """secret: out of the token. agent_id: the agent makes it once and keeps it."""

    secret: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PLAIN)]
    agent_id: UUID
    name: Name
    region: Name

    def join(self) -> Join:
        return Join(self.secret, self.agent_id, self.name, self.region)


class JoinedView(BaseModel):
    """bus_url: with the node's own login. ca_pem: empty where the agent needs none."""

    node_id: UUID
    bus_url: str
    registry_address: str
    registry_username: str
    registry_password: str
    ca_pem: str

    @classmethod
    def of(cls, joined: Joined) -> Self:
        return cls.model_validate(joined, from_attributes=True)


class LoginWish(_Input):
    login: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PLAIN)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PLAIN)]


class NodeGpuView(BaseModel):
    """promised_milli: thousandths of the device that somebody holds."""

    uuid: str
    index: int
    model: str
    memory_mib: int
    healthy: bool
    promised_milli: int

    @classmethod
    def of(cls, gpu: Gpu) -> Self:
        return cls.model_validate(gpu, from_attributes=True)


class NodeView(BaseModel):
    """state: online, draining, silent or lost. draining: also while it is silent.
    credential: admitting, admitted, dismissing or dismissed; None in the platform's process."""

    id: UUID
    name: str
    region: str
    state: str
    draining: bool
    simulated: bool
    labels: dict[str, str]
    credential: str | None
    boot_id: str
    cpu_model: str
    cpu_cores: float
    memory_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    driver_version: str
    max_cuda: str
    tflops: float
    address: str
    heard_at: datetime
    created_at: datetime
    gpus: list[NodeGpuView]

    @classmethod
    def of(cls, shown: ShownNode) -> Self:
        node, own = shown.node, {"gpus", "credential"}
        values = {n: getattr(node, n) for n in cls.model_fields if n not in own}
        values["gpus"] = [NodeGpuView.of(gpu) for gpu in shown.gpus if gpu.present]
        values["credential"] = shown.credential
        values["state"] = shown_state(node.state, draining=node.draining)
        return cls.model_validate(values)


class BreakerView(BaseModel):
    """open: so many nodes are silent at once that none is declared lost. opened_at: since then."""

    open: bool
    opened_at: datetime | None

    @classmethod
    def of(cls, breaker: Breaker) -> Self:
        return cls(open=breaker.opened_at is not None, opened_at=breaker.opened_at)


class NodesView(Page[NodeView]):
    breaker: BreakerView
