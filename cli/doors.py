"""`chusuan ssh, password, open`: ways into a running instance."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Json, Trouble
from cli.command import desk_of
from cli.instances import InstanceName
from cli.naming import find_instance
from cli.output import Column, Desk
from shared.text import Text


def ssh(
    ctx: typer.Context,
    instance: InstanceName,
    command: Annotated[list[str] | None, typer.Argument(help="After `--`.")] = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", "-i", help="Private key file.")
    ] = None,
) -> None:
    """A shell in an instance, or one command: chusuan ssh INSTANCE -- nvidia-smi"""
    desk = desk_of(ctx)
    found = find_instance(desk.gateway, instance)
    words = ssh_command(found, desk.gateway.store.folder, identity, command or [])
    try:
        os.execvp(words[0], words)  # noqa: S606  the very program, with its terminal
    except FileNotFoundError as error:
        raise Trouble(
            "未找到 ssh 程序，请安装 openssh-client。",
            "The program ssh is missing: install openssh-client.",
        ) from error


def ssh_command(
    instance: Json, folder: Path, identity: Path | None, command: list[str]
) -> list[str]:
    """The host key belongs to the instance, not to a port that others had before.

    folder: holds the known_hosts file. Raises Trouble.
    """
    door = instance.get("ssh")
    if not door or instance["status"] != "running":
        raise Trouble(
            f"实例当前为 {instance['status']}，运行中才能 SSH 登录。",
            f"The instance is {instance['status']}; SSH answers while it is running.",
        )
    words = [
        "ssh",
        "-p",
        str(door["port"]),
        "-o",
        f'UserKnownHostsFile="{folder / "known_hosts"}"',
        "-o",
        f"HostKeyAlias=chusuan-{instance['id']}",
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        "LogLevel=ERROR",
    ]
    if identity is not None:
        words += ["-i", str(identity), "-o", "IdentitiesOnly=yes"]
    # `--`: an answer of the platform never becomes an option of ssh.
    return [*words, "--", f"{door['username']}@{door['host']}", *command]


def password(ctx: typer.Context, instance: InstanceName) -> None:
    """The instance's SSH password and app token; reading them is recorded."""
    desk = desk_of(ctx)
    found = find_instance(desk.gateway, instance)
    secrets = desk.gateway.get(f"/instances/{found['id']}/credentials")
    desk.output.record(
        secrets,
        (
            Column(Text("SSH 密码", "PASSWORD"), "password"),
            Column(Text("应用令牌", "APP TOKEN"), "app_token"),
        ),
    )


def open_app(
    ctx: typer.Context,
    instance: InstanceName,
    app: Annotated[str | None, typer.Option(help="The first one unless given.")] = None,
) -> None:
    """Print an address that opens JupyterLab or another app of the instance."""
    desk = desk_of(ctx)
    found = find_instance(desk.gateway, instance)
    answer = desk.gateway.post(f"/instances/{found['id']}/apps/{app or _first_app(found)}")
    if str(answer["url"]).startswith("/"):
        answer["url"] = f"{desk.gateway.url}{answer['url']}"
    _print_url(desk, answer)


def _first_app(instance: Json) -> str:
    apps = instance.get("apps") or []
    if not apps:
        raise Trouble("该实例的镜像没有应用。", "The image of this instance brings no app.")
    return str(apps[0]["name"])


def _print_url(desk: Desk, answer: Json) -> None:
    if desk.output.as_json:
        desk.output.document(answer)
    else:
        desk.output.plain(str(answer["url"]))
