"""`chusuan doctor`: looks at everything, and says of what is wrong what to do."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.command import desk_of
from cli.doctor_finding import Finding, Verdict
from cli.doctor_host import check_host
from cli.doctor_local import check_local
from cli.doctor_platform import check_platform
from cli.output import Desk
from cli.up.home import default_home

DOCKER_SOCKET = Path("/var/run/docker.sock")
COLOURS = {Verdict.ok: "green", Verdict.wrong: "bold red", Verdict.unknown: "yellow"}


def doctor(
    ctx: typer.Context,
    host: Annotated[bool, typer.Option("--host", help="This machine as a GPU host, too.")] = False,
    home: Annotated[
        Path | None, typer.Option(help="The state folder; CHUSUAN_HOME says it too.")
    ] = None,
) -> None:
    """Check this machine and the platform, and name the cures. Code 1 when something is wrong."""
    desk = desk_of(ctx)
    place = (home or default_home()).resolve()
    has_fault = False
    told: list[dict[str, object]] = []
    for finding in _findings(desk, place, host=host):
        has_fault |= finding.verdict is Verdict.wrong
        language = desk.output.language
        told.append(finding.document(language))
        if not desk.output.as_json:
            colour = COLOURS[finding.verdict]
            line = escape(finding.line(language))
            desk.output.out.print(f"[{colour}]{line[0]}[/]{line[1:]}")
    if desk.output.as_json:
        desk.output.document({"healthy": not has_fault, "findings": told})
    if has_fault:
        raise typer.Exit(1)


def _findings(desk: Desk, home: Path, *, host: bool) -> Iterator[Finding]:
    yield from check_local(home, DOCKER_SOCKET, desk.gateway.url)
    if host:
        netdisk = os.environ.get("CHUSUAN_AGENT_NETDISK_ROOT") or str(home / "storage")
        yield from check_host(Path("/"), Path(netdisk))
    yield from check_platform(desk.gateway)
