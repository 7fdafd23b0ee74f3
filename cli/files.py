"""`chusuan ls, mkdir, rm, cp`: the net disk, written `net:/path`."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli import transfer
from cli.client import Trouble
from cli.command import desk_of
from cli.output import Column, Desk, moment, size
from shared.text import Text

PREFIX = "net:"
NetPath = Annotated[str, typer.Argument(metavar="PATH", help="net:/path")]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-f", help="Replace what is there.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Folders with all in them.")]

ENTRY_COLUMNS = (
    Column(Text("修改时间", "MODIFIED"), lambda e: moment(e.get("modified_at"))),
    Column(
        Text("大小", "SIZE"),
        lambda e: size(e.get("size_bytes")) if e["kind"] == "file" else e["kind"],
        right=True,
    ),
    Column(Text("名称", "NAME"), lambda e: e["name"] + ("/" if e["kind"] == "directory" else "")),
)


def net_path(typed: str) -> str:
    """`net:/a/../b`, `/b` or `b` → `/b`."""
    return posixpath.normpath("/" + typed.removeprefix(PREFIX).lstrip("/"))


def list_files(ctx: typer.Context, path: NetPath = "net:/") -> None:
    """What is in a folder of the net disk."""
    desk = desk_of(ctx)
    desk.output.listing(desk.gateway.items("/files", path=net_path(path)), ENTRY_COLUMNS)


def make_folder(ctx: typer.Context, path: NetPath) -> None:
    """Make a folder on the net disk."""
    desk = desk_of(ctx)
    entry = desk.gateway.post("/files/directories", {"path": net_path(path)})
    if desk.output.as_json:
        desk.output.document(entry)


def remove(
    ctx: typer.Context,
    path: NetPath,
    recursive: Recursive = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a file, or with -r a folder, from the net disk."""
    desk = desk_of(ctx)
    target = net_path(path)
    if transfer.kind_of(desk.gateway, target) == "directory":
        if not recursive:
            raise Trouble(f"{target} 是文件夹；加 -r 删除。", f"{target} is a folder; add -r.")
        question = desk.output.text(
            "删除文件夹 {p} 及其全部内容", "Delete the folder {p} with all in it", p=target
        )
        if not yes and not typer.confirm(question, err=True):
            raise Trouble("未删除。", "Nothing was deleted.")
    desk.gateway.call("DELETE", "/files", params={"path": target})
    if desk.output.as_json:
        desk.output.document({})


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="A local path or net:/path.")],
    target: Annotated[str, typer.Argument(help="The other kind.")],
    recursive: Recursive = False,
    overwrite: Overwrite = False,
) -> None:
    """Copy between this machine and the net disk: cp a.txt net:/ or cp net:/a.txt ."""
    desk = desk_of(ctx)
    remote = [word.startswith(PREFIX) for word in (source, target)]
    if remote == [False, True]:
        jobs = _uploads(desk, Path(source), target, recursive=recursive)
    elif remote == [True, False]:
        jobs = _downloads(desk, net_path(source), Path(target), recursive=recursive)
    else:
        raise Trouble(
            "请指定一个本地路径和一个 net:/ 路径。", "Give one local path and one net:/ path."
        )
    try:
        _run(desk, jobs, up=remote[1], overwrite=overwrite)
    except OSError as error:
        raise Trouble(f"本地文件出错：{error}", f"A local file: {error}") from error


Job = tuple[Path, str, int]


def _uploads(desk: Desk, source: Path, typed: str, *, recursive: bool) -> list[Job]:
    target = net_path(typed)
    if not source.exists():
        raise Trouble(f"{source} 不存在。", f"{source} does not exist.")
    into = typed.endswith("/") or transfer.kind_of(desk.gateway, target) == "directory"
    top = str(PurePosixPath(target) / source.resolve().name) if into else target
    if source.is_file():
        return [(source, top, source.stat().st_size)]
    _need_recursive(str(source), recursive)
    folders, files = transfer.walk_local(source)
    for folder in folders:
        transfer.make_directory(desk.gateway, _below(top, folder, source))
    return [(path, _below(top, path, source), path.stat().st_size) for path in files]


def _below(top: str, path: Path, source: Path) -> str:
    return str(PurePosixPath(top).joinpath(*path.relative_to(source).parts))


def _downloads(desk: Desk, source: str, target: Path, *, recursive: bool) -> list[Job]:
    kind = transfer.kind_of(desk.gateway, source)
    if kind is None:
        raise Trouble(f"网盘上没有 {source}。", f"There is no {source} on the net disk.")
    top = target / PurePosixPath(source).name if target.is_dir() else target
    if kind != "directory":
        return [(top, source, 0)]
    _need_recursive(source, recursive)
    folders, files = transfer.walk_remote(desk.gateway, source)
    for folder in folders:
        (top / PurePosixPath(folder).relative_to(source)).mkdir(parents=True, exist_ok=True)
    return [
        (top / PurePosixPath(f["path"]).relative_to(source), f["path"], f["size_bytes"])
        for f in files
    ]


def _need_recursive(name: str, recursive: bool) -> None:
    if not recursive:
        raise Trouble(f"{name} 是文件夹；加 -r 复制。", f"{name} is a folder; add -r.")


def _run(desk: Desk, jobs: list[Job], *, up: bool, overwrite: bool) -> None:
    moved = 0
    with _bars(desk) as bars:
        task = bars.add_task("", total=sum(count for _, _, count in jobs) or None)

        def advance(count: int) -> None:
            nonlocal moved
            moved += count
            bars.update(task, advance=count)

        for local, remote, _ in jobs:
            bars.update(task, description=local.name)
            if up:
                transfer.upload(desk.gateway, local, remote, overwrite=overwrite, advance=advance)
            else:
                transfer.download(desk.gateway, remote, local, overwrite=overwrite, advance=advance)
    if desk.output.as_json:
        desk.output.document({"files": len(jobs), "bytes": moved})
    desk.output.say(
        "已复制 {n} 个文件，{s}。", "Copied {n} files, {s}.", n=len(jobs), s=size(moved)
    )


@contextmanager
def _bars(desk: Desk) -> Iterator[Progress]:
    """On a screen only: a log wants no bars."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=desk.output.err,
        disable=not desk.output.err.is_terminal,
    ) as progress:
        yield progress
