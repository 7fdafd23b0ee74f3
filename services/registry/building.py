"""System images: wanted by their recipes, built on hosts, followed by what builders report."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import repository as rows
from services.registry.domain.claims import Claim
from services.registry.domain.states import Kind, State
from services.registry.domain.words import NAMESPACE, readable, share, system_address
from services.registry.models import App, Image
from services.registry.moving import move
from services.registry.recipes import Recipe
from services.registry.tools import Tools
from shared.clock import utc_now
from shared.events.agent import ImageReported
from shared.ids import new_id
from shared.text import Text

HEARD_EVERY_S = 5.0
NO_BUILDER = Text(
    "没有主机在构建此镜像；请启动带镜像配方的 agent。",
    "No host is building it; start an agent that has the recipes.",
)
SAVE_TOO_LONG = Text(
    "保存超时，主机没有给出结果；请重新保存。",
    "The save took too long and the host gave no result; save again.",
)


async def put_recipes(session: AsyncSession, recipes: list[Recipe], *, registry: str) -> None:
    """The system images are these; others are withdrawn. registry: before their addresses."""
    now = utc_now()
    images = [_system_image(recipe, registry, now) for recipe in recipes]
    await rows.put_system(session, images)
    await rows.withdraw_system(session, keep=[image.address for image in images], now=now)


def _system_image(recipe: Recipe, registry: str, now: datetime) -> Image:
    return Image(
        id=new_id(),
        kind=Kind.system.value,
        owner_id=None,
        name=recipe.name,
        creator=NAMESPACE,
        address=system_address(recipe.name, recipe.version, registry=registry),
        recipe=recipe.name,
        base=recipe.base,
        rank=recipe.order,
        framework=recipe.framework,
        framework_version=recipe.framework_version,
        python=recipe.python,
        cuda=recipe.cuda,
        apps=[App(name=app.name, path=app.path) for app in recipe.apps],
        status=State.building.value,
        locked=True,
        created_at=now,
        heard_at=now,
    )


async def take_report(
    session: AsyncSession, tools: Tools, report: ImageReported, source: str
) -> None:
    """A builder says everything again and again: only what is new is written. Another's word does
    not count while the image's own builder is heard."""
    image = await rows.lock(session, report.image_id)
    if image is None or image.kind != Kind.system.value:
        return
    now = utc_now()
    claim = Claim(image.builder, image.heard_at)
    if not claim.admits(source, now, tools.settings.builder_lapses_s):
        return
    said = readable(report.message)
    if not move(image, State(report.state), message=Text(said, said) if said else None):
        return
    if image.builder != source:
        image.builder, image.heard_at = source, now
        tools.want_changed(session)
    elif now - image.heard_at >= timedelta(seconds=HEARD_EVERY_S):
        image.heard_at = now
    if report.state == State.building:
        image.progress = share(report.progress)
    if report.state == State.ready:
        _note_bytes(image, report)


def _note_bytes(image: Image, report: ImageReported) -> None:
    """A builder that only found it in the registry knows no size."""
    if report.size_bytes or image.digest != report.digest:
        image.size_bytes = report.size_bytes or None
    image.digest = report.digest


async def overdue(session: AsyncSession, tools: Tools) -> list[UUID]:
    now, settings = utc_now(), tools.settings
    return await rows.overdue(
        session,
        saves_before=now - timedelta(seconds=settings.save_timeout_s),
        builds_before=now - timedelta(seconds=settings.build_silence_s),
    )


async def fail_overdue(session: AsyncSession, tools: Tools, image_id: UUID) -> None:
    image = await rows.lock(session, image_id)
    if image is None or image.id not in await overdue(session, tools):
        return
    is_system = image.kind == Kind.system.value
    move(image, State.failed, message=NO_BUILDER if is_system else SAVE_TOO_LONG)
