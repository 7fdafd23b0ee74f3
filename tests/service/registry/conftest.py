"""The real image centre on a real database; a test plays scheduler and builder over the bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from services.registry.clients.oci import OciClient
from services.registry.clients.scheduler import SchedulerClient
from services.registry.main import create_app
from services.registry.settings import RegistrySettings
from services.registry.tools import Tools
from shared.bus import Bus, Subscription, open_bus
from shared.events import Envelope, Payload
from shared.events.agent import ImageReported, ImagesWanted
from shared.ids import new_id
from tests.identity import TestIdentity

Json = dict[str, Any]
Condition = Callable[[ImagesWanted], bool]

RECIPES = {
    "minimal": """
name = "minimal"
version = "1"
order = 1
framework = "Debian"
framework_version = "12"
python = "3.11"
cuda = ""
""",
    "jupyter": """
name = "jupyter"
version = "1"
order = 2
base = "minimal"
framework = "JupyterLab"
framework_version = "4"
python = "3.11"
cuda = "12.4"
apps = [{name = "jupyterlab", path = "lab"}, {name = "tensorboard", path = "tensorboard/"}]
""",
}


def write_recipes(folder: Path, recipes: dict[str, str] | None = None) -> Path:
    for name, content in (RECIPES if recipes is None else recipes).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "recipe.toml").write_text(content)
    return folder


@dataclass
class House:
    tools: Tools
    http: httpx.AsyncClient
    bus: Bus
    identity: TestIdentity
    account_id: UUID = field(default_factory=new_id)
    wanted: list[ImagesWanted] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, envelope: Envelope) -> None:
        async with self._arrived:
            self.wanted.append(ImagesWanted.model_validate(envelope.data))
            self._arrived.notify_all()

    async def told(self, holds: Condition) -> ImagesWanted:
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: any(holds(w) for w in self.wanted))
        return next(w for w in reversed(self.wanted) if holds(w))

    def headers(self, account_id: UUID | None = None, **more: Any) -> dict[str, str]:
        return self.identity.headers(account_id or self.account_id, **more)

    async def call(
        self, method: str, path: str, *, as_: UUID | None = None, **request: Any
    ) -> httpx.Response:
        return await self.http.request(method, path, headers=self.headers(as_), **request)

    async def get(self, path: str, **params: Any) -> Json:
        answer = await self.call("GET", f"/api/v1{path}", params=params)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def names(self, **params: Any) -> list[str]:
        return [image["name"] for image in (await self.get("/images", **params))["items"]]

    async def system(self, name: str = "minimal") -> Json:
        items = (await self.get("/images", tab="system"))["items"]
        return next(image for image in items if image["name"] == name)

    async def place(self, name: str = "mine", **changes: Any) -> httpx.Response:
        source = changes.get("source_image_id") or (await self.system())["id"]
        body = {
            "image_id": str(new_id()),
            "name": name,
            "source_image_id": source,
            "instance_id": str(new_id()),
            **changes,
        }
        return await self.call("POST", "/internal/images", json=body)

    async def saving(self, name: str = "mine", **changes: Any) -> Json:
        answer = await self.place(name, **changes)
        assert answer.status_code == 201, answer.text
        image: Json = answer.json()
        return image

    async def say(self, payload: Payload, **envelope: Any) -> None:
        await self.bus.publish(Envelope.wrap(payload, subject="test", **envelope))

    async def say_as(self, source: str, payload: Payload) -> None:
        said = Envelope.wrap(payload, subject="test").model_copy(update={"source": source})
        await self.bus.publish(said)

    async def report(self, image: Json, state: str, **more: Any) -> Json:
        await self.say(ImageReported(image_id=UUID(image["id"]), state=state, **more))
        return await self.get(f"/images/{image['id']}")

    async def until(self, image: Json, status: str) -> Json:
        """For what a worker does by itself."""
        async with asyncio.timeout(10):
            while (shown := await self.get(f"/images/{image['id']}"))["status"] != status:
                await asyncio.sleep(0.01)
        return shown

    async def execute(self, statement: str, **values: Any) -> None:
        async with self.tools.database.transaction() as session:
            await session.execute(text(statement), values)


Opener = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(database_url: str, tmp_path: Path) -> Opener:
    recipes = write_recipes(tmp_path / "recipes")

    @asynccontextmanager
    async def start(
        scheduler: SchedulerClient | None = None, oci: OciClient | None = None, **changes: Any
    ) -> AsyncIterator[House]:
        unique = new_id().hex
        settings = RegistrySettings(
            **{
                "database_url": database_url,
                "bus_url": f"memory://{unique}",
                "redis_url": f"memory://{unique}",
                "auth_url": "http://127.0.0.1:1",
                "service_secret": SecretStr("x" * 32),
                "recipes": recipes,
                "sweep_s": 0.05,
                **changes,
            }
        )
        identity, bus = TestIdentity(), open_bus(f"memory://{unique}")
        app = create_app(settings, key_source=identity, scheduler=scheduler, oci=oci)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
                house = House(app.state.tools, http, bus, identity)
                queue = Subscription("test.wanted", (ImagesWanted.type,), house.take)
                await bus.subscribe(queue)
                yield house
        await bus.close()

    return start


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    async with open_house() as started:
        yield started
