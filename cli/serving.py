"""`chusuan up, serve, agent, clean-state`: the platform's own parts, imported when asked for."""

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ROOMS = {
    "auth": "services.auth",
    "storage": "services.storage",
    "registry": "services.registry",
    "market": "services.market",
    "scheduler": "services.scheduler",
    "gateway": "gateway",
}
# How long requests in flight have once the process is asked to stop.
STOP_S = 10
Port = Annotated[int, typer.Option(min=1, max=65535)]
Home = Annotated[Path | None, typer.Option(help="The state folder; CHUSUAN_HOME says it too.")]


def up(
    home: Home = None,
    address: Annotated[str, typer.Option(help="Where users reach this host.")] = "127.0.0.1",
    port: Port = 8080,
    sftp_port: Port = 2022,
    instance_ports: Annotated[
        str, typer.Option(metavar="FIRST-LAST", help="What instances may publish.")
    ] = "22000-22999",
    nodes: Annotated[
        Path | None, typer.Option(help="Simulated hosts, where the machine has no GPU.")
    ] = None,
    recipes: Annotated[Path | None, typer.Option(help="System images, a folder each.")] = None,
    apps_url: Annotated[
        str, typer.Option(help="Where browsers reach JupyterLab and its kin: a domain of its own.")
    ] = "",
    metrics: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where Prometheus reads all metrics.")
    ] = "",
    install: Annotated[bool, typer.Option(help="Install Docker where it is missing.")] = True,
) -> None:
    """Run the whole platform in this process, until Ctrl-C."""
    command = importlib.import_module("cli.up.command")
    first, last = _range(instance_ports)
    options = command.PlatformOptions(
        home=command.Home((home or command.default_home()).resolve()),
        address=address,
        port=port,
        sftp_port=sftp_port,
        port_first=first,
        port_last=last,
        apps_url=apps_url,
        metrics_address=metrics,
        **({} if nodes is None else {"nodes_file": nodes.resolve()}),
        **({} if recipes is None else {"recipes": recipes.resolve()}),
    )
    command.up(options, install=install)


def _range(words: str) -> tuple[int, int]:
    first, _, last = words.partition("-")
    if first.isdigit() and last.isdigit() and 1024 <= int(first) < int(last) <= 65535:
        return int(first), int(last)
    raise typer.BadParameter("two ports, as 22000-22999", param_hint="--instance-ports")


def clean_state(home: Home = None) -> None:
    """Remove the platform's state folder, after asking."""
    importlib.import_module("cli.up.command").clean_state(home)


def serve(
    name: Annotated[str, typer.Argument(help=", ".join(ROOMS))],
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """Run one service, with settings from the environment and the files of CHUSUAN_SECRETS_DIR."""
    if name not in ROOMS:
        raise typer.BadParameter(f"one of: {', '.join(ROOMS)}", param_hint="NAME")
    uvicorn = importlib.import_module("uvicorn")
    settings = _settings(ROOMS[name], name)
    _log_facts(settings.log_level)
    room = importlib.import_module(f"{ROOMS[name]}.main")
    # Whom the gateway may believe about a client; everyone else writes that header themselves.
    trusted = getattr(settings, "trusted_proxies", "")
    uvicorn.run(
        room.create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted),
        forwarded_allow_ips=trusted,
        timeout_graceful_shutdown=STOP_S,
        **getattr(room, "SERVER_OPTIONS", {}),
    )


def agent(
    join: Annotated[
        str, typer.Option(metavar="TOKEN", help="Of `chusuan nodes invite`; needed once.")
    ] = "",
    name: Annotated[str, typer.Option(help="Of this host; its host name unless given.")] = "",
    region: Annotated[str, typer.Option(help="Where the market shows it.")] = "",
    address: Annotated[str, typer.Option(help="Where users reach this host's instances.")] = "",
    label: Annotated[list[str], typer.Option(metavar="KEY=VALUE", help="May be given again.")] = [],  # noqa: B006  typer's way
    node: Annotated[str, typer.Option(help="Which of several nodes in the nodes file.")] = "",
) -> None:
    """Run the GPU host's daemon; all else it is told by CHUSUAN_AGENT_… in the environment."""
    given = {"join": join, "name": name, "region": region, "address": address, "node": node}
    options: dict[str, Any] = {key: words for key, words in given.items() if words}
    if label:
        options["labels"] = ",".join(label)
    try:
        settings = _settings("agent", "agent", **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _log_facts()
    main = importlib.import_module("agent.main")
    try:
        asyncio.run(main.run_as_node(settings))
    except main.CANNOT_RUN as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def _settings(package: str, name: str, **options: Any) -> Any:
    """Of a class that is known only by its room's name. options: count more than the rest."""
    settings = getattr(importlib.import_module(f"{package}.settings"), f"{name.title()}Settings")
    return settings(**options)


def _log_facts(level: str = "INFO") -> None:
    importlib.import_module("shared.logging").configure_logging(level)
    importlib.import_module("shared.telemetry").start_tracing()
