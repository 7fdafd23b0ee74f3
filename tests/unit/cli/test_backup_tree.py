"""A backup copies what is there, follows nobody's links, and notices when it is not whole."""

import os
from pathlib import Path

import pytest

from cli.backup_manifest import (
    FILES,
    MANIFEST,
    BackupBroken,
    Item,
    Manifest,
    content_path,
    hash_of,
    items,
    read_manifest,
    verify,
)
from cli.backup_tree import MOST_DEEP, Copying, put_back
from shared.clock import utc_now


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "storage" / "volumes").mkdir(parents=True)
    return home


def copied(home: Path, target: Path) -> tuple[Copying, dict[str, Item]]:
    target.mkdir()
    copying = Copying(home, target)
    with (target / FILES).open("w") as lines:
        for item in copying.tree("storage"):
            lines.write(item.line())
    manifest = Manifest(
        format=1, made_at=utc_now(), databases={}, files_sha256=hash_of(target / FILES),
        files=copying.files, bytes=copying.bytes,
        unsteady=copying.unsteady, left_out=copying.left_out,
    )  # fmt: skip
    (target / MANIFEST).write_text(manifest.model_dump_json())
    return copying, {item.path: item for item in items(target)}


def test_what_was_copied_comes_back_with_modes_times_links_and_odd_names(
    home: Path, tmp_path: Path
) -> None:
    volume = home / "storage" / "volumes"
    odd = os.fsdecode(b"\xff\xfe\n name")
    (volume / odd).write_bytes(b"odd")
    (volume / "肺.dcm").write_bytes(b"\0" * 3_000_000)
    (volume / "script").write_bytes(b"#!")
    (volume / "script").chmod(0o750)
    os.utime(volume / "script", ns=(1_000_000_000, 1_700_000_000_123_456_789))
    (volume / "empty").mkdir(mode=0o500)
    (volume / "link").symlink_to("/etc/shadow")
    copied(home, tmp_path / "backup")
    back = tmp_path / "back"
    back.mkdir()
    put_back(tmp_path / "backup", back)
    there = back / "storage" / "volumes"
    assert (there / odd).read_bytes() == b"odd"
    assert (there / "肺.dcm").read_bytes() == b"\0" * 3_000_000
    assert os.readlink(there / "link") == "/etc/shadow"
    for name in ("script", "empty", odd):
        was, now = (volume / name).stat(), (there / name).stat()
        assert (now.st_mode, now.st_mtime_ns) == (was.st_mode, was.st_mtime_ns)


def test_a_tenants_link_is_written_down_and_never_read(home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the host's own")
    (home / "storage" / "file").symlink_to(secret / "key")
    (home / "storage" / "folder").symlink_to(secret)
    copying, found = copied(home, tmp_path / "backup")
    assert copying.files == 0
    assert {found[f"storage/{n}"].kind for n in ("file", "folder")} == {"link"}
    assert "storage/folder/key" not in found


def test_a_folder_that_becomes_a_link_while_it_is_copied_leads_nowhere(
    home: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the host's own")
    trap = home / "storage" / "trap"
    trap.mkdir()
    (trap / "key").write_text("the tenant's")
    copying = Copying(home, tmp_path / "backup")
    found = []
    for item in copying.tree("storage"):
        found.append(item)
        if item.path == "storage/trap":
            (trap / "key").unlink()
            trap.rmdir()
            trap.symlink_to(secret)
    assert all(item.kind != "file" for item in found)
    assert copying.files == 0


def test_pipes_and_what_lies_absurdly_deep_are_left_out_and_counted(
    home: Path, tmp_path: Path
) -> None:
    os.mkfifo(home / "storage" / "pipe")
    deep = home / "storage"
    for _ in range(MOST_DEEP + 5):
        deep = deep / "d"
        deep.mkdir()
    copying, found = copied(home, tmp_path / "backup")
    assert copying.left_out == 2
    assert "storage/pipe" not in found


def test_a_backup_that_was_changed_is_refused(home: Path, tmp_path: Path) -> None:
    (home / "storage" / "a").write_text("a")
    backup = tmp_path / "backup"
    _, found = copied(home, backup)
    verify(backup, read_manifest(backup))
    number = found["storage/a"].content
    assert number is not None
    content_path(backup, number).write_text("b")
    with pytest.raises(BackupBroken):
        verify(backup, read_manifest(backup))
    content_path(backup, number).unlink()
    with pytest.raises(BackupBroken):
        verify(backup, read_manifest(backup))


def test_a_list_of_files_that_was_changed_is_refused(home: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    copied(home, backup)
    (backup / FILES).write_text("")
    with pytest.raises(BackupBroken):
        verify(backup, read_manifest(backup))
    (backup / MANIFEST).unlink()
    with pytest.raises(BackupBroken):
        read_manifest(backup)


def test_a_forged_list_does_not_lead_out_of_the_home(home: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    _, found = copied(home, backup)
    forged = found["storage/volumes"].model_copy(update={"path": "../outside"})
    (backup / FILES).write_text(forged.line())
    back = tmp_path / "back"
    back.mkdir()
    with pytest.raises(OSError, match="leads out"):
        put_back(backup, back)
    assert not (tmp_path / "outside").exists()
