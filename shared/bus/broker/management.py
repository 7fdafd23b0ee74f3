"""What stands at the broker, read from its management API: AMQP makes bindings, and shows none."""

import ssl
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from yarl import URL

from shared.bus.topology import KNOWN

WITHIN_S = 5.0

Binding = tuple[str, str]


class Unseen(Exception):
    """It did not answer, or does not let this login look."""


class _Binding(BaseModel):
    source: str
    routing_key: str
    arguments: dict[str, object]


_BINDINGS = TypeAdapter(list[_Binding])


@dataclass(frozen=True, slots=True)
class Management:
    """Looks as the bus's own login, which needs the tag `management`.

    bus_url: with login, virtual host and perhaps `cafile`. url: `http://HOST:15672`.
    """

    bus_url: str
    url: str

    async def bindings(self, queue: str) -> set[Binding]:
        """(exchange, key) of each; none, too, where there is no such queue. Raises Unseen."""
        found = await self._bindings(f"queues/{{vhost}}/{_path(queue)}/bindings")
        return {(each.source, each.routing_key) for each in found}

    async def has_queue(self, queue: str) -> bool:
        """Raises Unseen."""
        return await self._ask(f"queues/{{vhost}}/{_path(queue)}") is not None

    async def on_record(self, queue: str) -> set[str]:
        """Keys that the queue has asked for before, as `known` remembers. Raises Unseen."""
        found = await self._bindings(f"bindings/{{vhost}}/e/{KNOWN}/q/{KNOWN}")
        return {each.routing_key for each in found if each.arguments.get("queue") == queue}

    async def _bindings(self, path: str) -> list[_Binding]:
        try:
            return _BINDINGS.validate_json(await self._ask(path) or b"[]")
        except ValidationError as error:
            raise Unseen(str(error)) from error

    async def _ask(self, path: str) -> bytes | None:
        """None for what is not there. A new connection each time: asked twice a minute."""
        address = URL(self.bus_url)
        vhost = _path(address.path.removeprefix("/") or "/")
        trusted: ssl.SSLContext | bool = True
        if cafile := address.query.get("cafile"):
            trusted = ssl.create_default_context(cafile=cafile)
        try:
            async with httpx.AsyncClient(
                base_url=f"{self.url.rstrip('/')}/api",
                auth=(address.user or "", address.password or ""),
                timeout=WITHIN_S,
                verify=trusted,
                trust_env=False,
            ) as http:
                answer = await http.get(f"/{path.format(vhost=vhost)}")
        except httpx.HTTPError as error:
            raise Unseen(repr(error)) from error
        if answer.status_code == 404:
            return None
        if answer.is_error:
            raise Unseen(f"{answer.status_code}: has the bus's login the tag `management`?")
        return answer.content


def _path(part: str) -> str:
    return quote(part, safe="")
