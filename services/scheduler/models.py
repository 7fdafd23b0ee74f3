"""Tables of the scheduler."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Numeric,
    String,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from services.scheduler.domain.joining import CredentialState, InvitationState
from services.scheduler.domain.node_states import NodeState
from services.scheduler.domain.states import State
from shared import telemetry
from shared.database import new_metadata
from shared.platform_tables import define_platform_tables

STATES = ", ".join(f"'{state}'" for state in State)
NODE_STATES = ", ".join(f"'{state}'" for state in NodeState)
INVITATION_STATES = ", ".join(f"'{state}'" for state in InvitationState)
CREDENTIAL_STATES = ", ".join(f"'{state}'" for state in CredentialState)
Words = dict[str, str]


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    metadata = new_metadata()
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it
        datetime: DateTime(timezone=True),
        Decimal: Numeric(18, 4),
        dict[str, Any]: JSONB,
        dict[str, str]: JSONB,
        list[dict[str, str]]: JSONB,
    }


define_platform_tables(Base.metadata)


class Node(Base, kw_only=True):
    """boot_id, sequence, reported_at: of the newest report taken (by the agent's clock).
    heard_at: when it came (by ours). told: what the market was last told; `version` counts that.
    next_port: where the search for free ports goes on, so that numbers are not reused at once.
    given_name, given_region: from its invitation; they hold over what the agent says.
    revoked: its credential was taken back, so that nothing it says counts.
    draining: takes nothing new. labels: as its agent says.
    digest: of the newest report without its time, once all it means is done; else empty.
    running: start tokens that the newest report shows running.
    usage_proven_at: time of the newest report that was looked at for proofs.
    """

    __tablename__ = "nodes"
    __table_args__ = (CheckConstraint(f"state IN ({NODE_STATES})", name="state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    region: Mapped[str]
    simulated: Mapped[bool]
    state: Mapped[str]
    cpu_model: Mapped[str]
    cpu_cores: Mapped[float]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    disk_bytes: Mapped[int] = mapped_column(BigInteger)
    disk_free_bytes: Mapped[int] = mapped_column(BigInteger)
    driver_version: Mapped[str]
    max_cuda: Mapped[str]
    tflops: Mapped[float]
    address: Mapped[str]
    app_address: Mapped[str]
    port_first: Mapped[int]
    port_last: Mapped[int]
    next_port: Mapped[int]
    boot_id: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)
    reported_at: Mapped[datetime]
    heard_at: Mapped[datetime]
    usage_proven_at: Mapped[datetime | None] = mapped_column(default=None)
    told: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    given_name: Mapped[str | None] = mapped_column(default=None)
    given_region: Mapped[str | None] = mapped_column(default=None)
    revoked: Mapped[bool] = mapped_column(default=False)
    draining: Mapped[bool] = mapped_column(default=False)
    labels: Mapped[dict[str, str]] = mapped_column(default_factory=dict)
    digest: Mapped[str] = mapped_column(default="")
    running: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()), default_factory=list)
    created_at: Mapped[datetime]


class Breaker(Base, kw_only=True):
    """One row. Open while so many nodes are silent that none is declared lost.
    counted_from: who was heard since then counts. closed_at: when an operator closed it."""

    __tablename__ = "breaker"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    opened_at: Mapped[datetime | None] = mapped_column(default=None)
    counted_from: Mapped[datetime | None] = mapped_column(default=None)
    closed_at: Mapped[datetime | None] = mapped_column(default=None)


class Invitation(Base, kw_only=True):
    """A word from an operator that one host may join. secret_hash: sha256, hex; the secret is 32
    random bytes, so that a slow hash would protect nothing. agent_id, node_id: of who used it."""

    __tablename__ = "invitations"
    __table_args__ = (
        CheckConstraint(f"state IN ({INVITATION_STATES})", name="state"),
        CheckConstraint(
            "(state = 'used') = (agent_id IS NOT NULL AND node_id IS NOT NULL)", name="used"
        ),
        UniqueConstraint("secret_hash"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    secret_hash: Mapped[str] = mapped_column(repr=False)
    name: Mapped[str | None]
    region: Mapped[str | None]
    created_by: Mapped[UUID]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    agent_id: Mapped[UUID | None] = mapped_column(default=None)
    node_id: Mapped[UUID | None] = mapped_column(default=None)


class Credential(Base, kw_only=True):
    """A node's login at broker and registry. agent_id: made and kept by the agent.
    password_hash: sha256, hex, of 32 random bytes.
    attempt: of the newest question to the broker; only it may write down the answer.
    busy_until: by then that question has its answer, and another one may be asked.
    """

    __tablename__ = "node_credentials"
    __table_args__ = (
        CheckConstraint(f"state IN ({CREDENTIAL_STATES})", name="state"),
        Index(
            "ix_node_credentials_live_agent", "agent_id", unique=True,
            postgresql_where=text("state <> 'dismissed'"),
        ),
    )  # fmt: skip

    node_id: Mapped[UUID] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    agent_id: Mapped[UUID]
    state: Mapped[str]
    password_hash: Mapped[str] = mapped_column(repr=False)
    attempt: Mapped[UUID]
    busy_until: Mapped[datetime]
    changed_at: Mapped[datetime]


class Gpu(Base, kw_only=True):
    """promised_milli: the sum of its rows in `promises`, never above one whole device.
    present: in the newest inventory."""

    __tablename__ = "gpus"
    __table_args__ = (CheckConstraint("promised_milli BETWEEN 0 AND 1000", name="promised_milli"),)

    node_id: Mapped[UUID] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    uuid: Mapped[str] = mapped_column(primary_key=True)
    index: Mapped[int]
    model: Mapped[str]
    memory_mib: Mapped[int]
    healthy: Mapped[bool]
    present: Mapped[bool]
    promised_milli: Mapped[int] = mapped_column(default=0)


class Instance(Base, kw_only=True):
    """version rises with every move; generation with every new order, and fences at the agent.
    image_apps: name and path of each.
    resume: while saving, the state under the save; while lost, what it comes back to.
    lost_authorisation_id: that was settled when its node was lost; its terms go on at a return.
    seen_running_at: when a report last showed it running, where the newest one does not.
    authorisation_id: the open one; None once its stop or abandonment is told.
    next_authorisation_id, next_price_per_hour: of a restart that waits for the stop.
    started_at: when SSH answered in the present start, or in the last one.
    traceparent: of the request whose order is the present one, where it is traced.
    start_ordered_at: when the present start was asked for. progress_at: its last sign of life.
    """

    __tablename__ = "instances"
    __table_args__ = (
        CheckConstraint(f"state IN ({STATES})", name="state"),
        CheckConstraint("mode IN ('gpu', 'cpu')", name="mode"),
        CheckConstraint("(state = 'saving') = (save_image_id IS NOT NULL)", name="save"),
        CheckConstraint("gpu_count > 0", name="gpu_count"),
        Index(None, "account_id", "created_at"),
        Index(None, "node_id", "state"),
        Index(None, "authorisation_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    node_id: Mapped[UUID] = mapped_column(ForeignKey("nodes.id"))
    name: Mapped[str]
    state: Mapped[str]
    resume: Mapped[str | None] = mapped_column(default=None)
    mode: Mapped[str]
    gpu_count: Mapped[int]
    cpu_cores: Mapped[float]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    env: Mapped[dict[str, str]]
    image_id: Mapped[UUID]
    image_name: Mapped[str]
    image_address: Mapped[str]
    image_apps: Mapped[list[dict[str, str]]]
    ssh_port: Mapped[int]
    app_port: Mapped[int]
    password: Mapped[str] = mapped_column(repr=False)
    password_hash: Mapped[str] = mapped_column(repr=False)
    app_token: Mapped[str] = mapped_column(repr=False)
    ssh_host_key: Mapped[str] = mapped_column(repr=False)
    start_token: Mapped[UUID]
    generation: Mapped[int] = mapped_column(BigInteger, default=1)
    version: Mapped[int] = mapped_column(BigInteger, default=1)
    authorisation_id: Mapped[UUID | None]
    lost_authorisation_id: Mapped[UUID | None] = mapped_column(default=None)
    seen_running_at: Mapped[datetime | None] = mapped_column(default=None)
    price_per_hour: Mapped[Decimal]
    next_authorisation_id: Mapped[UUID | None] = mapped_column(default=None)
    next_price_per_hour: Mapped[Decimal | None] = mapped_column(default=None)
    stop_reason: Mapped[str | None] = mapped_column(default=None)
    status_reason: Mapped[dict[str, str] | None] = mapped_column(default=None)
    progress: Mapped[float | None] = mapped_column(default=None)
    progress_mark: Mapped[str] = mapped_column(default="")
    progress_at: Mapped[datetime]
    save_image_id: Mapped[UUID | None] = mapped_column(default=None)
    save_reference: Mapped[str | None] = mapped_column(default=None)
    traceparent: Mapped[str | None] = mapped_column(String(telemetry.LENGTH), default=None)
    created_at: Mapped[datetime]
    start_ordered_at: Mapped[datetime]
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    stopped_at: Mapped[datetime | None] = mapped_column(default=None)
    releasing_at: Mapped[datetime | None] = mapped_column(default=None)
    released_at: Mapped[datetime | None] = mapped_column(default=None)


class RunEnd(Base, kw_only=True):
    """An authorised run that ended, as the market was told: kept for a while, since it may not have
    heard. stopped_at: by the host's clock. recorded_at: by ours."""

    __tablename__ = "run_ends"
    __table_args__ = (Index(None, "recorded_at"),)

    authorisation_id: Mapped[UUID] = mapped_column(primary_key=True)
    instance_id: Mapped[UUID]
    stopped_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now(), init=False)


class Promise(Base, kw_only=True):
    """So much of this device is this instance's, until its container is proven gone."""

    __tablename__ = "promises"
    __table_args__ = (
        ForeignKeyConstraint(["node_id", "gpu_uuid"], ["gpus.node_id", "gpus.uuid"]),
        CheckConstraint("milli BETWEEN 1 AND 1000", name="milli"),
        Index(None, "instance_id"),
    )

    node_id: Mapped[UUID] = mapped_column(primary_key=True)
    gpu_uuid: Mapped[str] = mapped_column(primary_key=True)
    instance_id: Mapped[UUID] = mapped_column(ForeignKey("instances.id"), primary_key=True)
    milli: Mapped[int]
    promised_at: Mapped[datetime]


class Reservation(Base, kw_only=True):
    """Something asked of another service for a request that has no answer yet.

    id: of the authorisation or the image. request: operation and idempotency key."""

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint("kind IN ('start', 'image')", name="kind"),
        UniqueConstraint("owner_id", "request"),
        Index(None, "made_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[UUID]
    request: Mapped[str]
    instance_id: Mapped[UUID]
    made_at: Mapped[datetime]


class Port(Base, kw_only=True):
    """A host port belongs to one instance for its life."""

    __tablename__ = "ports"
    __table_args__ = (Index(None, "instance_id"),)

    node_id: Mapped[UUID] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    port: Mapped[int] = mapped_column(primary_key=True)
    instance_id: Mapped[UUID]


class HistoryEntry(Base, kw_only=True):
    """One move of one instance. actor_id: None when the platform did it."""

    __tablename__ = "instance_history"
    __table_args__ = (Index(None, "instance_id", "at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    instance_id: Mapped[UUID] = mapped_column(ForeignKey("instances.id"))
    at: Mapped[datetime]
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    cause: Mapped[str]
    reason: Mapped[dict[str, str] | None]
    generation: Mapped[int] = mapped_column(BigInteger)
    actor_id: Mapped[UUID | None]


class Reach(Base, kw_only=True):
    """How far an account's money pays for what it runs, as the market said last, at said_at."""

    __tablename__ = "reaches"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    paid_until: Mapped[datetime]
    said_at: Mapped[datetime]


class SshKey(Base, kw_only=True):
    """Auth's keys as it told them. A removed one stays as a mark, lest a late `added` revive it."""

    __tablename__ = "ssh_keys"
    __table_args__ = (Index(None, "account_id"),)

    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    public_key: Mapped[str]
    removed: Mapped[bool]
