"""A recipe folder as a build's context. Blocking."""

import io
import re
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

HOST_FOLDER = ".host"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class NoRecipe(Exception):
    """This host has none of that name."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """base: the recipe whose image it stands on; None for a plain Debian."""

    name: str
    reference: str
    base: str | None


def read_recipe(recipes: Path, name: str) -> Recipe:
    """Raises NoRecipe."""
    try:
        found = tomllib.loads((folder_of(recipes, name) / "recipe.toml").read_text())
        return Recipe(name, f"chusuan/{name}:{found['version']}", found.get("base"))
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise NoRecipe(f"{recipes / name / 'recipe.toml'}: {error!r}") from error


def folder_of(recipes: Path, name: str) -> Path:
    """Raises NoRecipe."""
    folder = recipes / name
    if not _NAME.fullmatch(name) or not (folder / "Dockerfile").is_file():
        raise NoRecipe(f"no recipe {name!r} on this host")
    return folder


@contextmanager
def packed(folder: Path, host: Mapping[str, bytes]) -> Iterator[IO[bytes]]:
    """A tar of the folder and, in `.host`, of what the host adds. Times and owners are none of
    the folder's, so that Docker's cache sees only what matters."""
    with TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(folder, ".", filter=_plain)
            for name, content in sorted(host.items()):
                member = tarfile.TarInfo(f"{HOST_FOLDER}/{name}")
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))
        file.seek(0)
        yield file


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member
