"""Tenants plant links, FIFOs and swaps; nothing leads out of their folder and nothing hangs."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.storage.domain.path import parse
from services.storage.entries import Kind
from services.storage.errors import LeadsOutside, NoSuchFile, WrongKind
from services.storage.upload import Upload
from services.storage.volume import Volume
from shared.ids import new_id

SECRET = b"host secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    volume = Volume(tmp_path / "volume")
    volume.prepare()
    return volume


@pytest.fixture
def files(volume: Volume, tmp_path: Path) -> Path:
    """As the tenant's container sees it."""
    return tmp_path / "volume" / "files"


@pytest.fixture
def upload(volume: Volume) -> Iterator[Upload]:
    upload = volume.new_upload(new_id())
    upload.write(b"mine")
    yield upload
    upload.close()


def _read(volume: Volume, path: str) -> bytes:
    with volume.open(parse(path)) as descriptor:
        return os.read(descriptor, 100)


def _links(files: Path, outside: Path) -> None:
    (files / "absolute").symlink_to(outside)
    (files / "relative").symlink_to("../../outside")
    (files / "folder").mkdir()
    (files / "folder" / "deep").symlink_to("../../../outside")
    (files / "file").symlink_to(outside / "secret")
    (files / "magic").symlink_to("/proc/self/root")


ESCAPES = [
    "/absolute/secret",
    "/relative/secret",
    "/folder/deep/secret",
    "/file",
    "/magic/etc/passwd",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_link_is_read_through_to_the_outside(
    volume: Volume, files: Path, outside: Path, path: str
) -> None:
    _links(files, outside)
    with pytest.raises(LeadsOutside):
        _read(volume, path)


@pytest.mark.parametrize("parent", ["/absolute", "/relative", "/folder/deep"])
def test_no_name_outside_is_listed_made_moved_or_deleted(
    volume: Volume, files: Path, outside: Path, upload: Upload, parent: str
) -> None:
    _links(files, outside)
    (files / "own").write_bytes(b"own")
    attempts: list[Callable[[], object]] = [
        lambda: volume.list(parse(parent), 0, 10),
        lambda: volume.make_folder(parse(f"{parent}/made")),
        lambda: volume.put(upload, parse(f"{parent}/put"), overwrite=True),
        lambda: volume.move(parse("/own"), parse(f"{parent}/moved")),
        lambda: volume.move(parse(f"{parent}/secret"), parse("/stolen")),
        lambda: volume.delete(parse(f"{parent}/secret")),
    ]
    for attempt in attempts:
        with pytest.raises(LeadsOutside):
            attempt()
    assert os.listdir(outside) == ["secret"]


def test_deleting_a_folder_spares_what_its_links_point_to(
    volume: Volume, files: Path, outside: Path
) -> None:
    _links(files, outside)
    volume.delete(parse("/folder"))
    volume.delete(parse("/absolute"))
    assert (outside / "secret").read_bytes() == SECRET
    assert not (files / "folder").exists()


def test_overwriting_a_link_replaces_the_link_and_not_its_target(
    volume: Volume, files: Path, outside: Path, upload: Upload
) -> None:
    _links(files, outside)
    assert volume.put(upload, parse("/file"), overwrite=True).kind is Kind.file
    assert (outside / "secret").read_bytes() == SECRET
    assert _read(volume, "/file") == b"mine"


def test_a_link_within_the_net_disk_is_followed(volume: Volume, files: Path) -> None:
    (files / "data").mkdir()
    (files / "data" / "a").write_bytes(b"own")
    (files / "latest").symlink_to("data")
    assert _read(volume, "/latest/a") == b"own"


def test_a_fifo_or_a_socket_is_refused_at_once(volume: Volume, files: Path) -> None:
    os.mkfifo(files / "fifo")
    with pytest.raises(WrongKind):
        _read(volume, "/fifo")
    assert [e.kind for e in volume.list((), 0, 10)[0]] == [Kind.other]


def test_a_name_that_is_no_utf8_is_listed_and_does_no_harm(volume: Volume, files: Path) -> None:
    (files / os.fsdecode(b"\xff\n")).write_bytes(b"")
    assert volume.list((), 0, 10)[0][0].name == "\ufffd\n"


def test_links_swapped_in_a_loop_never_let_a_byte_out(
    volume: Volume, files: Path, outside: Path
) -> None:
    (files / "real").mkdir()
    (files / "real" / "secret").write_bytes(b"own")
    (files / "evil").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("real", "evil"):
                os.symlink(name if name == "real" else str(outside), files / "next")
                os.rename(files / "next", files / "current")

    attacker = threading.Thread(target=swap)
    attacker.start()
    seen: set[bytes] = set()
    try:
        for number in range(3000):
            try:
                seen.add(_read(volume, "/current/secret"))
                volume.make_folder(parse(f"/current/made{number}"))
            except (LeadsOutside, NoSuchFile):
                continue
    finally:
        stop.set()
        attacker.join()
    assert seen == {b"own"}
    assert os.listdir(outside) == ["secret"]
