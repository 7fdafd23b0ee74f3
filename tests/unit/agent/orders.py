"""Orders and container facts for the agent's pure tests."""

from datetime import UTC, datetime
from uuid import UUID

from agent.engine import NEVER_STARTED, ContainerFact
from agent.journal import Entry
from shared.events.agent import DesiredInstance

NODE = UUID(int=1)
INSTANCE = UUID(int=2)
FIRST, SECOND = UUID(int=11), UUID(int=12)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def an_order(**changes: object) -> DesiredInstance:
    values: dict[str, object] = {
        "instance_id": INSTANCE,
        "name": "训练",
        "generation": 3,
        "start_token": FIRST,
        "want": "running",
        "mode": "gpu",
        "image": "chusuan/minimal:12",
        "gpus": ["GPU-b", "GPU-a"],
        "cpu_cores": 16.0,
        "memory_bytes": 64 << 30,
        "ssh_port": 22000,
        "app_port": 22001,
        "env": {"A": "1"},
        "authorized_keys": ["ssh-ed25519 AAAA me"],
        "password_hash": "$6$s$h",
        "app_token": "token",
        "ssh_host_key": "KEY",
        "volume_id": UUID(int=3),
    }
    return DesiredInstance.model_validate({**values, **changes})


def an_entry(**changes: object) -> Entry:
    values: dict[str, object] = {
        "node_id": NODE,
        "instance_id": INSTANCE,
        "generation": 3,
        "token": FIRST,
    }
    return Entry.model_validate({**values, **changes})


def a_container(
    *,
    id_: str = "c1",
    spec: str = "spec",
    disk: int = 0,
    running: bool = False,
    started_raw: str = NEVER_STARTED,
    token: UUID = FIRST,
    finished_at: datetime | None = None,
    exit_code: int = 0,
    oom_killed: bool = False,
) -> ContainerFact:
    return ContainerFact(
        id=id_,
        name=id_,
        node_id=NODE,
        instance_id=INSTANCE,
        generation=3,
        token=token,
        spec=spec,
        disk=disk,
        running=running,
        started_raw=started_raw,
        finished_at=finished_at,
        exit_code=exit_code,
        oom_killed=oom_killed,
    )
