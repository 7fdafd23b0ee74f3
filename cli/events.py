"""`chusuan events`: (operator) facts as they happen, dead letters, figures, outside programs."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import httpx
import typer

from cli.client import ClientError, Json, Refused, Trouble
from cli.command import CommandGroup, desk_of
from cli.naming import choose
from cli.output import Column, Desk, moment
from cli.serving import ROOMS
from shared.text import Text

SERVICES = tuple(room for room in ROOMS if room != "gateway")

events = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, help="(operator) Events and dead letters."
)
dead = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Events that were not handled.")
subscribers = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, help="Programs outside that hear facts."
)
events.add_typer(dead, name="dead")
events.add_typer(subscribers, name="subscribers")

LETTER_COLUMNS = (
    Column(Text("消费者", "CONSUMER"), "consumer"),
    Column(Text("事件", "EVENT"), "type"),
    Column(Text("对象", "SUBJECT"), "subject"),
    Column(Text("尝试", "TRIES"), "attempts", right=True),
    Column(Text("搁置时间", "PARKED"), lambda d: moment(d["parked_at"])),
    Column(Text("错误", "ERROR"), "error"),
    Column(Text("编号", "ID"), "event_id"),
)
DETAIL_COLUMNS = (
    *LETTER_COLUMNS,
    Column(
        Text("信封", "ENVELOPE"),
        lambda d: json.dumps(d["envelope"], ensure_ascii=False, indent=2),
    ),
)
STATS_COLUMNS = (
    Column(Text("服务", "SERVICE"), "service"),
    Column(Text("待发", "WAITING"), "outbox_waiting", right=True),
    Column(Text("最久", "OLDEST"), lambda s: f"{s['outbox_oldest_age_s']:.1f} s", right=True),
    Column(Text("消费者", "CONSUMER"), "consumer"),
    Column(Text("已处理", "HANDLED"), "handled", right=True),
    Column(Text("延迟", "LAG"), lambda s: _seconds(s.get("lag_s")), right=True),
    Column(Text("最近处理", "LAST"), lambda s: moment(s.get("last_handled_at"))),
    Column(Text("死信", "DEAD"), "dead_letters", right=True),
)
SUBSCRIBER_COLUMNS = (
    Column(Text("名称", "NAME"), "name"),
    Column(Text("登录名", "LOGIN"), "login"),
    Column(Text("状态", "STATE"), "state"),
    Column(Text("事件", "PATTERNS"), lambda s: " ".join(s["patterns"])),
    Column(Text("问题", "TROUBLE"), "trouble"),
    Column(Text("创建时间", "CREATED"), lambda s: moment(s["created_at"])),
    Column(Text("编号", "ID"), "id"),
)
LOGIN_COLUMNS = (
    Column(Text("队列", "QUEUE"), "queue"),
    Column(Text("登录名", "LOGIN"), "login"),
    Column(Text("密码", "PASSWORD"), "password"),
    Column(Text("地址", "URL"), "url"),
)

ConsumerOption = Annotated[
    str | None, typer.Option("--consumer", help="Only of this queue, such as market.runs.")
]
EventId = Annotated[str, typer.Argument(metavar="EVENT", help="Its id, or a beginning of it.")]


@events.command("tail")
def tail(
    ctx: typer.Context,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN…", help="As 'market.#'; all unless given."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
) -> None:
    """Facts as they happen, until Ctrl-C; with --json one object a line."""
    desk = desk_of(ctx)
    shown = 0
    try:
        for kind, said in _stream(desk, patterns or ["#"]):
            if kind == "dropped":
                desk.output.note(
                    "读取过慢，丢失了 {n} 个事件。", "Too slow: {n} events were missed.",
                    n=said["count"],
                )  # fmt: skip
            elif kind == "over":
                raise Trouble(
                    "登录已失效，请运行 chusuan login。", "The login has ended. Run: chusuan login"
                )
            else:
                _show_fact(desk, said)
                shown += 1
                if shown == limit:
                    return
    except KeyboardInterrupt:
        return
    except httpx.HTTPError as error:
        raise Trouble(f"连接已断开：{error}", f"The connection was lost: {error}") from error
    raise Trouble("事件流已结束。", "The stream has ended.")


def _stream(desk: Desk, patterns: list[str]) -> Iterator[tuple[str, Json]]:
    """(event, data) of server-sent events."""
    parameters = {"pattern": patterns}
    headers = {"accept": "text/event-stream"}
    with desk.gateway.download("/events/tail", parameters, headers) as response:
        kind = data = ""
        for line in response.iter_lines():
            name, _, value = line.partition(":")
            if name == "event":
                kind = value.strip()
            elif name == "data":
                data = value.strip()
            elif not line and data:
                yield kind, json.loads(data)
                kind = data = ""


def _show_fact(desk: Desk, event: Json) -> None:
    if desk.output.as_json:
        desk.output.plain(json.dumps(event, ensure_ascii=False))
    else:
        data = json.dumps(event["data"], ensure_ascii=False)
        desk.output.plain(f"{moment(event['time'])}  {event['type']}  {event['subject']}  {data}")
    sys.stdout.flush()


def _of_every_service(desk: Desk, ask: Callable[[str], list[Json]]) -> list[Json]:
    """What each answers; one that is away is named, and does not hide the others."""
    found: list[Json] = []
    away: list[ClientError] = []
    for service in SERVICES:
        try:
            found += ask(service)
        except Refused as refusal:
            # 404: this platform runs without that service.
            if refusal.status not in (404, 503):
                raise
            away.append(refusal)
            desk.output.note("{s} 没有响应。", "{s} does not answer.", s=service)
    if len(away) == len(SERVICES):
        raise away[0]
    return found


@dead.command("list")
def list_dead(
    ctx: typer.Context,
    consumer: ConsumerOption = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="A beginning, such as market.wallet.")
    ] = None,
) -> None:
    """Of all services."""
    desk = desk_of(ctx)
    found = _of_every_service(
        desk,
        lambda service: desk.gateway.items(
            f"/dead-letters/{service}", consumer=consumer, type=type_
        ),
    )
    desk.output.listing(found, LETTER_COLUMNS)


@dead.command("show")
def show_dead(ctx: typer.Context, event: EventId, consumer: ConsumerOption = None) -> None:
    """One, with its envelope and the last error."""
    desk = desk_of(ctx)
    desk.output.record(desk.gateway.get(_path(_find(desk, event, consumer))), DETAIL_COLUMNS)


@dead.command("replay")
def replay(
    ctx: typer.Context,
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="Its id, or a beginning of it.")
    ] = None,
    consumer: ConsumerOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All of --consumer, oldest first.")
    ] = False,
) -> None:
    """Have the effect after all; a letter whose effect fails stays."""
    desk = desk_of(ctx)
    if everything and consumer and event is None:
        _replay_all(desk, consumer)
        return
    if event is None or everything:
        raise Trouble(
            "请给出事件编号，或 --all --consumer 名称。", "Give an event, or --all --consumer NAME."
        )
    letter = _find(desk, event, consumer)
    desk.gateway.post(f"{_path(letter)}/replay")
    if desk.output.as_json:
        desk.output.document({"replayed": [letter["event_id"]], "failed": []})
    desk.output.say(
        "{consumer} 已处理 {type}。", "{consumer} has handled {type}.",
        consumer=letter["consumer"], type=letter["type"],
    )  # fmt: skip


def _replay_all(desk: Desk, consumer: str) -> None:
    service = consumer.partition(".")[0]
    total: Json = {"replayed": [], "failed": [], "left": 0}
    while True:
        answer = desk.gateway.post(f"/dead-letters/{service}/{consumer}/replay")
        total["replayed"] += answer["replayed"]
        total["failed"] += answer["failed"]
        total["left"] = answer["left"]
        # A hundred at a time; where nothing went any more, what is left needs a person.
        if not answer["left"] or answer["failed"] or not answer["replayed"]:
            break
    if desk.output.as_json:
        desk.output.document(total)
    desk.output.say(
        "已重放 {done} 个，失败 {failed} 个，剩余 {left} 个。",
        "{done} replayed, {failed} failed, {left} left.",
        done=len(total["replayed"]), failed=len(total["failed"]), left=total["left"],
    )  # fmt: skip
    if total["left"]:
        raise typer.Exit(1)


@dead.command("drop")
def drop(
    ctx: typer.Context,
    event: EventId,
    consumer: ConsumerOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Throw it away: its effect will never happen."""
    desk = desk_of(ctx)
    letter = _find(desk, event, consumer)
    if not yes:
        question = desk.output.text(
            "丢弃 {type}（{consumer}）？它的作用将永远不会发生",
            "Drop {type} ({consumer})? Its effect will never happen",
            type=letter["type"],
            consumer=letter["consumer"],
        )
        typer.confirm(question, abort=True, err=True)
    desk.gateway.call("DELETE", _path(letter))
    if desk.output.as_json:
        desk.output.document({})
    desk.output.say("已丢弃 {type}。", "Dropped {type}.", type=letter["type"])


def _find(desk: Desk, event: str, consumer: str | None) -> Json:
    """Raises Trouble for none, and for one that several consumers have parked."""
    letters = _of_every_service(
        desk,
        lambda service: [
            {**letter, "id": letter["event_id"]}
            for letter in desk.gateway.items(f"/dead-letters/{service}", consumer=consumer)
        ],
    )
    return choose(event, letters, ("死信", "dead letter"), "consumer")


def _path(letter: Json) -> str:
    return f"/dead-letters/{letter['service']}/{letter['consumer']}/{letter['event_id']}"


@events.command("stats")
def stats(ctx: typer.Context) -> None:
    """How each service's events fare: what waits to be told, what each consumer has handled."""
    desk = desk_of(ctx)
    found = _of_every_service(desk, lambda service: [desk.gateway.get(f"/events/stats/{service}")])
    if desk.output.as_json:
        desk.output.document({"items": found, "total": len(found)})
        return
    rows = [
        {**service, **consumer}
        for service in found
        for consumer in service["consumers"] or [{"consumer": None, "handled": None}]
    ]
    desk.output.listing(rows, STATS_COLUMNS)


@subscribers.command("list")
def list_subscribers(ctx: typer.Context) -> None:
    """Programs that hear facts, and whether the broker knows them."""
    desk = desk_of(ctx)
    desk.output.listing(desk.gateway.items("/events/subscribers"), SUBSCRIBER_COLUMNS)


@subscribers.command("add")
def add_subscriber(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the program, such as billing-export.")],
    patterns: Annotated[
        list[str], typer.Argument(metavar="PATTERN…", help="As 'scheduler.instance.*'.")
    ],
) -> None:
    """Give a program a login and a queue; the password is shown this once."""
    desk = desk_of(ctx)
    body = {"name": name, "patterns": patterns}
    desk.output.record(desk.gateway.create("/events/subscribers", body), LOGIN_COLUMNS)
    desk.output.note(
        "密码只显示这一次。list 显示 standing 后即可连接。",
        "The password is shown this once. It works as soon as `list` says standing.",
    )


@subscribers.command("remove")
def remove_subscriber(
    ctx: typer.Context, subscriber: Annotated[str, typer.Argument(metavar="NAME")]
) -> None:
    """Take login and queue away; what the program has not taken is lost."""
    desk = desk_of(ctx)
    found = choose(
        subscriber, desk.gateway.items("/events/subscribers"), ("外部程序", "program"), "name"
    )
    desk.gateway.call("DELETE", f"/events/subscribers/{found['id']}")
    if desk.output.as_json:
        desk.output.document({})
    desk.output.say("已删除 {name}。", "Removed {name}.", name=found["name"])


def _seconds(value: object) -> str:
    return "—" if value is None else f"{value:.2f} s"
