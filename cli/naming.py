"""From what a person types to one object: an id, a short name, a name, or a unique beginning."""

from collections.abc import Sequence
from uuid import UUID

from cli.client import Gateway, Json, Trouble


def choose(typed: str, items: Sequence[Json], kind: tuple[str, str], *keys: str) -> Json:
    """keys: fields that name an item, beside `id`. Whole matches go before beginnings.

    kind: what it is called in Chinese and English. Raises Trouble for none and for several.
    """
    for matches in (
        [i for i in items if typed in (str(i.get(k)) for k in ("id", *keys))],
        [i for i in items if any(str(i.get(k) or "").startswith(typed) for k in ("id", *keys))],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            shown = ", ".join(f"{m.get(keys[0]) if keys else ''} ({m['id']})" for m in matches[:5])
            raise Trouble(
                f"“{typed}” 对应多个{kind[0]}：{shown}。请使用编号。",
                f"{typed!r} is more than one {kind[1]}: {shown}. Use the id.",
            )
    raise Trouble(f"没有名为“{typed}”的{kind[0]}。", f"There is no {kind[1]} called {typed!r}.")


def is_id(typed: str) -> bool:
    try:
        return str(UUID(typed)) == typed.lower()
    except ValueError:
        return False


def find_instance(gateway: Gateway, typed: str) -> Json:
    if is_id(typed):
        return gateway.get(f"/instances/{typed}")
    items = gateway.items("/instances")
    live = [i for i in items if i["status"] != "released"]
    kind = ("实例", "instance")
    try:
        return choose(typed, live, kind, "name", "short_name")
    except Trouble:
        # A released one is history, yet it can be shown.
        if len(live) == len(items) or any(_begins(i, typed) for i in live):
            raise
        return choose(typed, items, kind, "name", "short_name")


def _begins(item: Json, typed: str) -> bool:
    return any(str(item.get(k) or "").startswith(typed) for k in ("id", "name", "short_name"))


def find_offer(gateway: Gateway, typed: str) -> Json:
    if is_id(typed):
        return gateway.get(f"/offers/{typed}")
    return choose(typed, gateway.items("/offers"), ("主机", "offer"), "name")


def find_image(gateway: Gateway, typed: str) -> Json:
    """Of several with that name, the ones that are ready."""
    if is_id(typed):
        return gateway.get(f"/images/{typed}")
    items = [i for tab in ("system", "mine") for i in gateway.items("/images", tab=tab)]
    named = [i for i in items if i["name"] == typed]
    ready = [i for i in named if i["status"] == "ready"]
    return choose(typed, ready or named or items, ("镜像", "image"), "name")


def find_node(gateway: Gateway, typed: str) -> Json:
    if is_id(typed):
        return gateway.get(f"/nodes/{typed}")
    return choose(typed, gateway.items("/nodes"), ("主机", "host"), "name")


def find_account(gateway: Gateway, typed: str) -> Json:
    if is_id(typed):
        return gateway.get(f"/accounts/{typed}")
    found = gateway.items("/accounts", q=typed) or gateway.items("/accounts")
    return choose(typed, found, ("账号", "account"), "username")
