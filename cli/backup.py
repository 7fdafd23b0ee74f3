"""`chusuan backup, restore`: all state of an embedded platform, into a folder and back."""

import asyncio
import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Trouble
from cli.command import desk_of
from cli.output import size

HomeOption = Annotated[
    Path | None, typer.Option(help="The state folder; CHUSUAN_HOME says it too.")
]


def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    home: HomeOption = None,
) -> None:
    """Back the platform up, while it runs: accounts, money, files, secrets. Not: containers."""
    desk = desk_of(ctx)
    running, place = _parts(home)
    try:
        manifest = asyncio.run(running.back_up(place, target.absolute()))
    except OSError as error:
        raise Trouble(f"备份失败：{error}", f"The backup failed: {error}") from error
    if desk.output.as_json:
        desk.output.document(manifest.model_dump(mode="json"))
    desk.output.say(
        "已备份到 {where}：{databases} 个数据库，{files} 个文件（{size}），时点 {at}。",
        "Backed up to {where}: {databases} databases and {files} files ({size}) as of {at}.",
        where=target, databases=len(manifest.databases), files=manifest.files,
        size=size(manifest.bytes), at=manifest.made_at.isoformat(timespec="seconds"),
    )  # fmt: skip
    desk.output.note(
        "其中有全部密钥与密码，请妥善保管。实例的磁盘与已保存的镜像在 Docker 中，不包括在内。",
        "It holds every secret: keep it as such. Disks of instances and saved images lie in Docker "
        "and are not in it.",
    )
    if manifest.unsteady or manifest.left_out:
        desk.output.note(
            "{n} 个文件在复制时仍在写入；{m} 个特殊文件被略去。",
            "{n} files were written to while they were copied; {m} special files were left out.",
            n=manifest.unsteady, m=manifest.left_out,
        )  # fmt: skip


def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="What `chusuan backup` made.")],
    home: HomeOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Move aside what lies in the state folder.")
    ] = False,
) -> None:
    """Bring a backup back, after checking all of it. The platform must be stopped."""
    desk = desk_of(ctx)
    running, place = _parts(home)
    try:
        manifest, aside = asyncio.run(running.restore(source.absolute(), place, force=force))
    except OSError as error:
        raise Trouble(f"恢复失败：{error}", f"The restore failed: {error}") from error
    if desk.output.as_json:
        shown = {"home": str(place.root), "aside": str(aside) if aside else None}
        desk.output.document({**shown, "manifest": manifest.model_dump(mode="json")})
    desk.output.say(
        "已恢复到 {home}，时点 {at}。之后发生的一切都不在其中；启动后请按 docs/operate.md 核对。",
        "Restored to {home} as of {at}. What came later is not in it: after the start, look as "
        "docs/operate.md says.",
        home=place.root, at=manifest.made_at.isoformat(timespec="seconds"),
    )  # fmt: skip
    if aside is not None:
        desk.output.note("原来的状态在 {aside}。", "What was there lies in {aside}.", aside=aside)


def _parts(home: Path | None) -> tuple[Any, Any]:
    """Imported when asked for, as the platform's other parts are."""
    homes = importlib.import_module("cli.up.home")
    place = homes.Home((home or homes.default_home()).resolve())
    return importlib.import_module("cli.backup_running"), place
