"""`chusuan rent, ps, show, start, stop, restart, save, release`: the life of an instance."""

from typing import Annotated

import typer

from cli.client import Json, Trouble
from cli.command import desk_of
from cli.naming import find_image, find_instance, find_offer
from cli.output import Column, Desk, hours, moment
from cli.waiting import wait_for_image, wait_for_state
from shared.text import Text

InstanceName = Annotated[
    str, typer.Argument(metavar="INSTANCE", help="Name, short name, id or its beginning.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is done, or at once.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait at most.")]

ENDED = frozenset({"failed", "lost", "released"})


def _status(instance: Json) -> str:
    mark = " (no card)" if instance["status"] == "running" and instance["mode"] == "cpu" else ""
    return f"{instance['status']}{mark}"


def _card(instance: Json) -> str:
    mark = " (simulated)" if instance.get("simulated") else ""
    return f"{instance['gpu_count']} × {instance['gpu_model']}{mark}"


def _command(instance: Json) -> str | None:
    return instance["ssh"]["command"] if instance.get("ssh") else None


LIST_COLUMNS = (
    Column(Text("实例", "INSTANCE"), "short_name"),
    Column(Text("名称", "NAME"), "name"),
    Column(Text("状态", "STATUS"), _status),
    Column(Text("显卡", "GPUS"), _card),
    Column(Text("主机", "HOST"), "node_name"),
    Column(Text("镜像", "IMAGE"), lambda i: i["image"]["name"]),
    Column(Text("单价", "PRICE"), lambda i: hours(i.get("price_per_hour")), right=True),
    Column(Text("SSH", "SSH"), _command),
)
DETAIL_COLUMNS = (
    Column(Text("编号", "ID"), "id"),
    *LIST_COLUMNS,
    Column(Text("原因", "REASON"), lambda i: i.get("status_reason") or i.get("stop_reason")),
    Column(Text("空闲显卡", "GPUS NOW"), "gpu_availability"),
    Column(Text("环境变量", "ENV"), lambda i: " ".join(f"{k}={v}" for k, v in i["env"].items())),
    Column(Text("应用", "APPS"), lambda i: ", ".join(_app(a) for a in i.get("apps") or [])),
    Column(Text("可用操作", "ACTIONS"), lambda i: ", ".join(i.get("allowed_actions") or [])),
    Column(Text("创建", "CREATED"), lambda i: moment(i.get("created_at"))),
    Column(Text("开机", "STARTED"), lambda i: moment(i.get("started_at"))),
    Column(Text("关机", "STOPPED"), lambda i: moment(i.get("stopped_at"))),
    Column(Text("将释放", "RELEASE DUE"), lambda i: moment(i.get("release_due_at"))),
)


def _app(app: Json) -> str:
    return str(app["name"]) if app.get("ready") else f"{app['name']} (not ready)"


def rent(
    ctx: typer.Context,
    offer: Annotated[str, typer.Argument(help="A host of `chusuan market`: name or id.")],
    image: Annotated[str, typer.Option(help="Name or id of an image.")],
    gpus: Annotated[int, typer.Option(min=1)] = 1,
    name: Annotated[str | None, typer.Option(help="What you call it.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="May be repeated.")] = None,
    wait: Wait = True,
    timeout: Timeout = 900,
) -> None:
    """Rent GPUs and start an instance on them."""
    desk = desk_of(ctx)
    variables = _variables(env or [])
    body: Json = {
        "offer_id": find_offer(desk.gateway, offer)["id"],
        "gpu_count": gpus,
        "image_id": find_image(desk.gateway, image)["id"],
        "billing": "payg",
        "env": variables,
    }
    if name is not None:
        body["name"] = name
    instance = desk.gateway.create("/instances", body)
    _finish(desk, instance, "running", wait=wait, timeout_s=timeout)


def ps(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Released ones too.")] = False,
    status: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Your instances."""
    desk = desk_of(ctx)
    items = desk.gateway.items("/instances", status=status)
    if not everything and status is None:
        items = [item for item in items if item["status"] != "released"]
    desk.output.listing(items, LIST_COLUMNS)


def show(ctx: typer.Context, instance: InstanceName) -> None:
    """All about one instance."""
    desk = desk_of(ctx)
    desk.output.record(find_instance(desk.gateway, instance), DETAIL_COLUMNS)


def start(
    ctx: typer.Context,
    instance: InstanceName,
    no_card: Annotated[bool, typer.Option("--no-card", help="Without GPU, cheap.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Wait for GPUs that are taken.")] = False,
    wait: Wait = True,
    timeout: Timeout = 900,
) -> None:
    """Start a stopped instance."""
    body: Json = {"mode": "cpu" if no_card else "gpu", "wait": queue}
    _move(desk_of(ctx), instance, "start", "running", wait=wait, timeout_s=timeout, body=body)


def stop(
    ctx: typer.Context, instance: InstanceName, wait: Wait = True, timeout: Timeout = 300
) -> None:
    """Stop an instance: its disk stays, its GPUs go back to the market."""
    _move(desk_of(ctx), instance, "stop", "stopped", wait=wait, timeout_s=timeout)


def restart(
    ctx: typer.Context, instance: InstanceName, wait: Wait = True, timeout: Timeout = 300
) -> None:
    """Stop and start it on the same GPUs."""
    _move(desk_of(ctx), instance, "restart", "running", wait=wait, timeout_s=timeout)


def save(
    ctx: typer.Context,
    instance: InstanceName,
    name: Annotated[str, typer.Argument(help="The new image's name.")],
    wait: Wait = True,
    timeout: Timeout = 1800,
) -> None:
    """Save the system disk as an image of yours."""
    desk = desk_of(ctx)
    found = find_instance(desk.gateway, instance)
    answer = desk.gateway.create(f"/instances/{found['id']}/save", {"name": name})
    if wait:
        target = frozenset({"stopped", "running"})
        answer = wait_for_state(desk, answer, target, ended=ENDED, timeout_s=timeout)
        wait_for_image(desk, name, timeout_s=timeout)
    desk.output.record(answer, DETAIL_COLUMNS)


def release(
    ctx: typer.Context,
    instance: InstanceName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Timeout = 300,
) -> None:
    """Give an instance back; its system and data disks are deleted."""
    desk = desk_of(ctx)
    found = find_instance(desk.gateway, instance)
    question = desk.output.text(
        "释放 {name}？系统盘和数据盘将被删除，无法恢复",
        "Release {name}? Its system and data disks will be deleted for ever",
        name=found["name"] or found["short_name"],
    )
    if not yes and not typer.confirm(question, err=True):
        raise Trouble("未释放。", "Nothing was released.")
    _move(desk, found["id"], "release", "released", wait=wait, timeout_s=timeout)


def _move(
    desk: Desk,
    typed: str,
    verb: str,
    target: str,
    *,
    wait: bool,
    timeout_s: float,
    body: Json | None = None,
) -> None:
    found = find_instance(desk.gateway, typed)
    answer = desk.gateway.post(f"/instances/{found['id']}/{verb}", body)
    _finish(desk, answer, target, wait=wait, timeout_s=timeout_s)


def _finish(desk: Desk, instance: Json, target: str, *, wait: bool, timeout_s: float) -> None:
    if wait:
        # One that was to run but stopped will not run by itself.
        ended = ENDED | {"stopped"} if target == "running" else ENDED
        instance = wait_for_state(
            desk, instance, frozenset({target}), ended=ended - {target}, timeout_s=timeout_s
        )
    desk.output.record(instance, DETAIL_COLUMNS)


def _variables(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Trouble(f"--env 应为 K=V，而不是 {pair!r}", f"--env takes K=V, not {pair!r}")
        found[key] = value
    return found
