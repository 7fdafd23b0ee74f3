"""`chusuan nodes …`: operators and their hosts."""

from typing import Annotated

import typer

from cli.client import Json
from cli.command import CommandGroup, desk_of
from cli.naming import find_node
from cli.output import Column, moment, size
from shared.text import Text

nodes = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, help="(operator) Hosts: let them in, empty, remove."
)

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name or id.")]


def _gpus(node: Json) -> str:
    """Held and all."""
    held = sum(gpu["promised_milli"] > 0 for gpu in node["gpus"])
    return f"{held}/{len(node['gpus'])}"


def _models(node: Json) -> str:
    return ", ".join(sorted({str(gpu["model"]) for gpu in node["gpus"]}))


def _name(node: Json) -> str:
    return f"{node['name']} *" if node.get("simulated") else str(node["name"])


LIST_COLUMNS = (
    Column(Text("主机", "NODE"), _name),
    Column(Text("区域", "REGION"), "region"),
    Column(Text("状态", "STATE"), "state"),
    Column(Text("显卡", "GPU"), _models),
    Column(Text("占用/总量", "HELD/ALL"), _gpus, right=True),
    Column(Text("最后上报", "HEARD"), lambda n: moment(n["heard_at"])),
    Column(Text("凭据", "CREDENTIAL"), "credential"),
    Column(Text("编号", "ID"), "id"),
)
NODE_COLUMNS = (
    *LIST_COLUMNS,
    Column(Text("地址", "ADDRESS"), "address"),
    Column(Text("处理器", "CPU"), lambda n: f"{n['cpu_model']} × {n['cpu_cores']:g}"),
    Column(Text("内存", "MEMORY"), lambda n: size(n["memory_bytes"])),
    Column(Text("磁盘可用", "DISK FREE"), lambda n: size(n["disk_free_bytes"])),
    Column(Text("驱动", "DRIVER"), "driver_version"),
    Column(Text("CUDA", "CUDA"), "max_cuda"),
    Column(Text("启动编号", "BOOT"), "boot_id"),
    Column(Text("标签", "LABELS"), lambda n: " ".join(f"{k}={v}" for k, v in n["labels"].items())),
)


@nodes.command("invite")
def invite(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="As its agent says unless given.")] = None,
    region: Annotated[str | None, typer.Option(help="As its agent says unless given.")] = None,
    hours: Annotated[float, typer.Option(min=0.02, max=720, help="How long it is good.")] = 24,
) -> None:
    """Let one host join; prints the command to run there. The token is shown this once."""
    desk = desk_of(ctx)
    wish = {"name": name, "region": region, "expires_in_s": int(hours * 3600)}
    made = desk.gateway.post("/nodes/invitations", {k: v for k, v in wish.items() if v is not None})
    if desk.output.as_json:
        return desk.output.document(made)
    desk.output.note(
        "请在新主机上运行（{until} 前有效，仅可用一次）：",
        "Run this on the new host (good until {until}, once):",
        until=moment(made["expires_at"]),
    )
    desk.output.plain(made["command"])
    return None


@nodes.command("list")
def list_nodes(ctx: typer.Context) -> None:
    """All hosts."""
    desk = desk_of(ctx)
    found = list(desk.gateway.items("/nodes"))
    desk.output.listing(found, LIST_COLUMNS)
    if any(node.get("simulated") for node in found) and not desk.output.as_json:
        desk.output.note("* 模拟显卡，没有真实硬件", "* simulated GPUs: no hardware stands behind")
    if desk.gateway.get("/nodes", size=1)["breaker"]["open"]:
        desk.output.note(
            "多台主机同时失联，平台怀疑是自身故障，暂不判定失联。确认主机确已停机后，请运行："
            "chusuan nodes close-breaker",
            "Many hosts are silent at once: the platform suspects itself and declares none lost. "
            "Once you know that they are down, run: chusuan nodes close-breaker",
        )


@nodes.command("show")
def show(ctx: typer.Context, node: NodeName) -> None:
    """One host."""
    desk = desk_of(ctx)
    desk.output.record(find_node(desk.gateway, node), NODE_COLUMNS)


@nodes.command("drain")
def drain(ctx: typer.Context, node: NodeName) -> None:
    """Place nothing new there; what runs goes on."""
    _move(ctx, node, "drain")


@nodes.command("resume")
def resume(ctx: typer.Context, node: NodeName) -> None:
    """Place there again."""
    _move(ctx, node, "resume")


@nodes.command("revoke")
def revoke(ctx: typer.Context, node: NodeName) -> None:
    """Take its credential back: what it says counts no more."""
    _move(ctx, node, "revoke")


@nodes.command("remove")
def remove(
    ctx: typer.Context,
    node: NodeName,
    force: Annotated[
        bool, typer.Option("--force", help="The machine is gone: release what stood on it.")
    ] = False,
) -> None:
    """Remove it for good."""
    desk = desk_of(ctx)
    found = find_node(desk.gateway, node)
    query = {"force": "true"} if force else {}
    desk.gateway.call("DELETE", f"/nodes/{found['id']}", params=query)
    if desk.output.as_json:
        desk.output.document({})
    desk.output.say("已移除主机 {who}。", "Removed host {who}.", who=found["name"])


@nodes.command("close-breaker")
def close_breaker(ctx: typer.Context) -> None:
    """You vouch that the silent hosts are down: they are declared lost."""
    desk = desk_of(ctx)
    answer = desk.gateway.post("/nodes/breaker/close")
    if desk.output.as_json:
        desk.output.document(answer)
    desk.output.say("失联的主机将被判定为失联。", "The silent hosts are declared lost.")


def _move(ctx: typer.Context, node: str, move: str) -> None:
    desk = desk_of(ctx)
    found = find_node(desk.gateway, node)
    answer = desk.gateway.post(f"/nodes/{found['id']}/{move}")
    desk.output.record(answer, NODE_COLUMNS)
