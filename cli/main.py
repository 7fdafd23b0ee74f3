"""`chusuan`: wires the commands; what they do lives in the modules named after their nouns."""

import os
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from cli import (
    accounts,
    backup,
    doctor,
    doors,
    events,
    files,
    instances,
    market,
    nodes,
    retelling,
    serving,
)
from cli.client import DEFAULT_URL, Gateway
from cli.command import CommandGroup
from cli.output import Desk, Output
from cli.session import SessionStore, config_folder
from shared.text import Language

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Chusuan 楚算: rent GPU containers, move files, watch the costs.",
)

PEOPLE, RENTING, DISK, PLATFORM = "Account", "Instances", "Net disk", "Platform"

COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    PEOPLE: {
        "register": accounts.register,
        "login": accounts.login,
        "logout": accounts.logout,
        "whoami": accounts.whoami,
        "wallet": market.wallet,
        "bill": market.bill,
    },
    RENTING: {
        "market": market.market,
        "images": market.images,
        "rent": instances.rent,
        "ps": instances.ps,
        "show": instances.show,
        "ssh": doors.ssh,
        "password": doors.password,
        "open": doors.open_app,
        "start": instances.start,
        "stop": instances.stop,
        "restart": instances.restart,
        "save": instances.save,
        "release": instances.release,
    },
    DISK: {
        "ls": files.list_files,
        "cp": files.copy,
        "mkdir": files.make_folder,
        "rm": files.remove,
    },
    PLATFORM: {
        "accounts": accounts.accounts,
        "approve": accounts.approve,
        "reject": accounts.reject,
        "credit": accounts.credit,
        "doctor": doctor.doctor,
        "backup": backup.backup,
        "restore": backup.restore,
        "up": serving.up,
        "serve": serving.serve,
        "agent": serving.agent,
        "clean-state": serving.clean_state,
    },
}

for panel, commands in COMMANDS.items():
    for word, function in commands.items():
        app.command(word, rich_help_panel=panel)(function)
app.add_typer(accounts.keys, name="keys", rich_help_panel=PEOPLE)
app.add_typer(nodes.nodes, name="nodes", rich_help_panel=PLATFORM)
events.events.command("retell")(retelling.retell)
app.add_typer(events.events, name="events", rich_help_panel=PLATFORM)


@app.callback()
def prepare(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="CHUSUAN_URL", help=f"Last login's gateway, or {DEFAULT_URL}."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout; anywhere on the line.")
    ] = False,
    lang: Annotated[str | None, typer.Option(help="zh or en; LANG decides unless given.")] = None,
) -> None:
    if lang not in (None, "zh", "en"):
        raise typer.BadParameter("zh or en", param_hint="--lang")
    language: Language = "zh" if (lang or _locale()).startswith("zh") else "en"
    store = SessionStore(config_folder())
    address = (url or store.current_url or DEFAULT_URL).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise typer.BadParameter("http://… or https://…", param_hint="--url")
    gateway = Gateway(address, language, store)
    ctx.obj = Desk(gateway, Output(language, as_json))
    ctx.call_on_close(gateway.close)


def _locale() -> str:
    """POSIX order; the first that is set decides."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if found := os.environ.get(name):
            return found
    return ""


def run() -> None:
    app(prog_name="chusuan")


if __name__ == "__main__":
    run()
