"""Bytes between this machine and the net disk: streamed, with progress, resumed when cut off."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import httpx

from cli.client import PAUSES_S, Gateway, Json, Refused, Trouble, Unreachable

CHUNK = 1 << 20
Advance = Callable[[int], None]


def kind_of(gateway: Gateway, path: str) -> str | None:
    """ "file", "directory", or None where nothing is."""
    if path == "/":
        return "directory"
    parent = str(PurePosixPath(path).parent)
    name = PurePosixPath(path).name
    try:
        for entry in gateway.items("/files", path=parent):
            if entry["name"] == name:
                return str(entry["kind"])
    except Refused as refusal:
        if refusal.status not in (404, 409, 422):
            raise
    return None


def upload(
    gateway: Gateway, source: Path, target: str, *, overwrite: bool, advance: Advance
) -> None:
    """target: the file's whole path on the net disk."""
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        advance(-sent)  # a second try starts over
        sent = 0
        with source.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
                sent += len(chunk)
                advance(len(chunk))

    params = {"path": target, "overwrite": "true" if overwrite else "false"}
    gateway.upload("/files/content", params, source.stat().st_size, body)


def make_directory(gateway: Gateway, path: str) -> None:
    """Also when it is there already."""
    try:
        gateway.post("/files/directories", {"path": path})
    except Refused as refusal:
        if refusal.status != 409 or kind_of(gateway, path) != "directory":
            raise


def download(
    gateway: Gateway, source: str, target: Path, *, overwrite: bool, advance: Advance
) -> None:
    """Whole or not at all. A cut connection is taken up where it broke, if the file is the same."""
    if target.exists() and not overwrite:
        raise Trouble(
            f"{target} 已存在；加 --overwrite 覆盖。", f"{target} exists; add --overwrite."
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            etag: str | None = None
            for pause_s in (*PAUSES_S, None):
                headers = {}
                if etag is not None and file.tell():
                    headers = {"range": f"bytes={file.tell()}-", "if-range": etag}
                try:
                    with gateway.download("/files/content", {"path": source}, headers) as answer:
                        if answer.status_code != 206:
                            advance(-file.tell())
                            file.seek(0)
                            file.truncate()
                        etag = answer.headers.get("etag")
                        for chunk in answer.iter_bytes(CHUNK):
                            file.write(chunk)
                            advance(len(chunk))
                    break
                except httpx.TransportError as error:
                    if pause_s is None:
                        raise Unreachable(gateway.url, error) from error
                    time.sleep(pause_s)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def walk_local(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders (parents first) and regular files below; links are left out."""
    folders, files = [], []
    for root, names, leaves in os.walk(folder):
        names.sort()
        folders.append(Path(root))
        paths = (Path(root) / leaf for leaf in sorted(leaves))
        files += [path for path in paths if path.is_file() and not path.is_symlink()]
    return folders, files


def walk_remote(gateway: Gateway, path: str) -> tuple[list[str], list[Json]]:
    """The same of the net disk: folder paths and file entries with their `path` made whole."""
    folders, files = [path], []
    for folder in folders:
        for entry in gateway.items("/files", path=folder):
            name = str(entry["name"])
            if "/" in name or "\0" in name or name in ("", ".", ".."):
                raise Trouble(f"网盘上的名称不安全：{name!r}", f"Unsafe name on the disk: {name!r}")
            whole = str(PurePosixPath(folder) / name)
            if entry["kind"] == "directory":
                folders.append(whole)
            elif entry["kind"] == "file":
                files.append({**entry, "path": whole})
    return folders, files
