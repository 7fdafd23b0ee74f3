"""Reads nodes.toml: hosts that are declared, not found. Refuses what it does not understand."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class NodesFileError(ValueError):
    """The file and what to change in it."""


class DeclaredNode(BaseModel):
    """simulated: must be said, so that nobody offers cards by accident that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    region: Name
    simulated: Literal[True]
    gpu_model: Words
    gpu_count: int = Field(ge=1, le=64)
    gpu_memory_mib: int = Field(ge=1, le=10_000_000)
    driver_version: Words
    max_cuda: Words
    tflops: float = Field(ge=0)
    cpu_cores: float = Field(gt=0, le=4096)
    memory_gib: int = Field(ge=1, le=1_000_000)
    disk_gib: int = Field(ge=1, le=100_000_000)


class _NodesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    node: list[DeclaredNode] = []


def read_nodes(path: Path) -> list[DeclaredNode]:
    """Raises NodesFileError, which names the file, the node and the field."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NodesFileError(f"{path} does not exist: create it or unset nodes_file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NodesFileError(f"{path}: {error}") from error
    try:
        nodes = _NodesFile.model_validate(document).node
    except ValidationError as error:
        raise NodesFileError(
            "; ".join(f"{path}: {_where(e['loc'])}: {e['msg']}" for e in error.errors())
        ) from error
    names = [node.name for node in nodes]
    for name in names:
        if names.count(name) > 1:
            raise NodesFileError(f"{path}: two nodes are named {name!r}: names must differ")
    return nodes


def one_of(nodes: list[DeclaredNode], name: str) -> DeclaredNode:
    """The named one, or the only one: an agent with a credential is one node. Raises
    NodesFileError."""
    names = ", ".join(node.name for node in nodes)
    if name:
        for node in nodes:
            if node.name == name:
                return node
        raise NodesFileError(f"no node is declared as {name!r}: choose --node from {names}")
    if len(nodes) > 1:
        raise NodesFileError(
            f"several nodes are declared, and one agent is one node: choose --node from {names}"
        )
    return nodes[0]


def _where(location: tuple[int | str, ...]) -> str:
    """`("node", 1, "region")` → `[[node]] number 2, region`."""
    match location:
        case ("node", int(index), *rest):
            return ", ".join([f"[[node]] number {index + 1}", *map(str, rest)])
    return ".".join(map(str, location))
