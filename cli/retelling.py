"""`chusuan events retell`: (operator) facts that a consumer has lost are told again."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.client import Json, Trouble
from cli.command import desk_of
from cli.events import SERVICES


def retell(
    ctx: typer.Context,
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help=f"Who told them: {', '.join(SERVICES)}.")
    ],
    since: Annotated[
        str, typer.Option(metavar="TIME", help="As 2026-11-24T10:00, UTC unless it says else.")
    ],
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to now unless given.")
    ] = None,
    type_: Annotated[
        str, typer.Option("--type", metavar="PATTERN", help="As 'market.#'; all unless given.")
    ] = "#",
) -> None:
    """Tell facts again that a consumer has lost; whoever had them does nothing."""
    desk = desk_of(ctx)
    if service not in SERVICES:
        known = ", ".join(SERVICES)
        raise Trouble(f"服务是：{known}。", f"A service is one of: {known}.")
    body: Json = {"since": _moment(since), "type": type_}
    if until is not None:
        body["until"] = _moment(until)
    answer = desk.gateway.post(f"/events/retell/{service}", body)
    if desk.output.as_json:
        desk.output.document(answer)
    desk.output.say(
        "{service} 将重发 {n} 个事件。", "{service} tells {n} facts again.",
        service=service, n=answer["retold"],
    )  # fmt: skip


def _moment(words: str) -> str:
    """Raises Trouble."""
    try:
        moment = datetime.fromisoformat(words)
    except ValueError as error:
        raise Trouble(
            f"无法识别的时间“{words}”，请写成 2026-11-24T10:00。",
            f"{words!r} is no time. Write it as 2026-11-24T10:00.",
        ) from error
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()
