"""`chusuan market, images, wallet, bill`: what there is and what it costs."""

from typing import Annotated

import typer

from cli.client import Json
from cli.command import desk_of
from cli.naming import find_image
from cli.output import Column, hours, moment, money, size
from shared.text import Text


def _offer_name(offer: Json) -> str:
    return f"{offer['name']} *" if offer.get("simulated") else str(offer["name"])


OFFER_COLUMNS = (
    Column(Text("主机", "OFFER"), _offer_name),
    Column(Text("区域", "REGION"), "region"),
    Column(Text("显卡", "GPU"), "gpu_model"),
    Column(Text("显存", "VRAM"), lambda o: f"{o['gpu_memory_gb']} GB", right=True),
    Column(
        Text("空闲/总量", "FREE/ALL"), lambda o: f"{o['gpu_free']}/{o['gpu_total']}", right=True
    ),
    Column(Text("核/卡", "CPU/GPU"), "cpu_cores_per_gpu", right=True),
    Column(Text("内存/卡", "RAM/GPU"), lambda o: f"{o['memory_gb_per_gpu']} GB", right=True),
    Column(Text("驱动", "DRIVER"), "driver_version"),
    Column(Text("CUDA", "CUDA"), lambda o: f"≤ {o['max_cuda']}"),
    Column(Text("元/卡时", "PRICE"), lambda o: hours(o["price_per_hour"]), right=True),
    Column(Text("无卡价", "NO CARD"), lambda o: hours(o["no_card_price_per_hour"]), right=True),
    Column(Text("状态", "STATUS"), "status"),
    Column(Text("编号", "ID"), "id"),
)
IMAGE_COLUMNS = (
    Column(Text("名称", "NAME"), "name"),
    Column(Text("类型", "KIND"), "kind"),
    Column(Text("框架", "FRAMEWORK"), lambda i: _framework(i)),
    Column(Text("Python", "PYTHON"), "python"),
    Column(Text("CUDA", "CUDA"), "cuda"),
    Column(Text("状态", "STATUS"), lambda i: _image_status(i)),
    Column(Text("大小", "SIZE"), lambda i: size(i.get("size_bytes")), right=True),
    Column(Text("创建时间", "CREATED"), lambda i: moment(i.get("created_at"))),
    Column(Text("编号", "ID"), "id"),
)
BILL_COLUMNS = (
    Column(Text("开始", "STARTED"), lambda b: moment(b.get("started_at"))),
    Column(Text("结束", "ENDED"), lambda b: moment(b.get("ended_at"))),
    Column(Text("秒", "SECONDS"), "seconds", right=True),
    Column(Text("模式", "MODE"), "mode"),
    Column(Text("单价", "PRICE"), lambda b: hours(b.get("price_per_hour")), right=True),
    Column(Text("金额", "AMOUNT"), lambda b: money(b.get("amount")), right=True),
    Column(Text("已结清", "SETTLED"), lambda b: "✓" if b.get("settled") else ""),
    Column(Text("实例", "INSTANCE"), "instance_id"),
)
WALLET_COLUMNS = (
    Column(Text("余额", "BALANCE"), lambda w: money(w["balance"])),
    Column(Text("冻结", "HELD"), lambda w: money(w["held"])),
    Column(Text("可用", "AVAILABLE"), lambda w: money(w["available"])),
)
ENTRY_COLUMNS = (
    Column(Text("时间", "TIME"), lambda e: moment(e.get("at"))),
    Column(Text("类型", "KIND"), "kind"),
    Column(Text("金额", "AMOUNT"), lambda e: money(e.get("amount")), right=True),
    Column(Text("余额", "BALANCE"), lambda e: money(e.get("balance_after")), right=True),
    Column(Text("备注", "NOTE"), "note"),
)


def market(
    ctx: typer.Context,
    region: Annotated[str | None, typer.Option()] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Cards free together.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="GPU model; may be repeated.")] = None,
    memory_min: Annotated[int | None, typer.Option(help="GB of one card.")] = None,
    memory_max: Annotated[int | None, typer.Option(help="GB of one card.")] = None,
    price_min: Annotated[str | None, typer.Option(help="Yuan per card and hour.")] = None,
    price_max: Annotated[str | None, typer.Option(help="Yuan per card and hour.")] = None,
    image: Annotated[str | None, typer.Option(help="Only hosts that can run it.")] = None,
) -> None:
    """Hosts with GPUs to rent, and their prices."""
    desk = desk_of(ctx)
    offers = desk.gateway.items(
        "/offers",
        region=region,
        gpu_count=gpus,
        model=model or None,
        gpu_memory_min=memory_min,
        gpu_memory_max=memory_max,
        price_min=price_min,
        price_max=price_max,
        image_cuda=(find_image(desk.gateway, image).get("cuda") or None) if image else None,
    )
    desk.output.listing(offers, OFFER_COLUMNS)
    if any(offer.get("simulated") for offer in offers) and not desk.output.as_json:
        desk.output.note("* 模拟显卡，没有真实硬件", "* simulated GPUs: no hardware stands behind")


def images(
    ctx: typer.Context,
    tab: Annotated[str | None, typer.Option(help="system or mine; both unless given.")] = None,
    name: Annotated[str | None, typer.Option()] = None,
    framework: Annotated[str | None, typer.Option()] = None,
    python: Annotated[str | None, typer.Option()] = None,
    cuda: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option(help="building, ready or failed")] = None,
) -> None:
    """Images that an instance can start from."""
    desk = desk_of(ctx)
    found: list[Json] = []
    for each in [tab] if tab else ["system", "mine"]:
        found += desk.gateway.items(
            "/images",
            tab=each,
            name=name,
            framework=framework,
            python=python,
            cuda=cuda,
            status=status,
        )
    desk.output.listing(found, IMAGE_COLUMNS)


def wallet(
    ctx: typer.Context,
    entries: Annotated[bool, typer.Option("--entries", help="What went in and out.")] = False,
    limit: Annotated[int, typer.Option(min=1)] = 50,
) -> None:
    """Your balance."""
    desk = desk_of(ctx)
    if entries:
        rows = desk.gateway.items("/wallet/entries", limit=limit)
        desk.output.listing(rows, ENTRY_COLUMNS)
    else:
        desk.output.record(desk.gateway.get("/wallet"), WALLET_COLUMNS)


def bill(ctx: typer.Context, limit: Annotated[int, typer.Option(min=1)] = 100) -> None:
    """What each use cost, newest first."""
    desk = desk_of(ctx)
    desk.output.listing(desk.gateway.items("/bills", limit=limit), BILL_COLUMNS)


def _framework(image: Json) -> str:
    return " ".join(str(image[k]) for k in ("framework", "framework_version") if image.get(k))


def _image_status(image: Json) -> str:
    progress = image.get("progress")
    if image["status"] == "building" and progress not in (None, ""):
        return f"building {progress}"
    if image["status"] == "failed" and image.get("message"):
        return f"failed: {image['message']}"
    return str(image["status"])
