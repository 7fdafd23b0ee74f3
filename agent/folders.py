"""The host folders behind a container's mounts. Blocking: callers go through a thread."""

import os
import shutil
from uuid import UUID

from agent.launch import Host
from shared.events.agent import DesiredInstance


def prepare_folders(order: DesiredInstance, host: Host) -> None:
    """All mount sources exist and the run folder says what the order says."""
    for folder in (host.volume_folder(order.volume_id), host.data_folder(order.instance_id)):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    host.public_folder.mkdir(parents=True, exist_ok=True)
    write_run_folder(order, host)


def write_run_folder(order: DesiredInstance, host: Host) -> None:
    """Each file is replaced whole; the folder itself stays, since a container may have it."""
    folder = host.run_folder(order.instance_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in run_files(order).items():
        temporary = folder / f".{name}.new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        temporary.replace(folder / name)


def run_files(order: DesiredInstance) -> dict[str, str]:
    """The contract with the images: file name → content."""
    key = order.ssh_host_key
    return {
        "authorized_keys": "".join(f"{line}\n" for line in order.authorized_keys),
        "password_hash": order.password_hash,
        "env": "".join(f"{name}={_one_line(value)}\n" for name, value in order.env.items()),
        "ssh_host_ed25519_key": key if key.endswith("\n") else f"{key}\n",
        "app_token": order.app_token,
        "app_base_url": f"/apps/{order.instance_id}/",
        "mode": order.mode,
    }


def remove_folders(instance_id: UUID, host: Host) -> None:
    """The tenant's tree may hold links; rmtree follows none."""
    for folder in (host.data_folder(instance_id), host.run_folder(instance_id)):
        if folder.exists():
            shutil.rmtree(folder)


def _one_line(value: str) -> str:
    """The scheduler refuses line ends; a second look, as one would add a variable."""
    return value.replace("\r", " ").replace("\n", " ").replace("\0", "")
