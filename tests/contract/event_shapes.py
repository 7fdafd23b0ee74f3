"""The shape of every event in every version, on record: `tests/contract/events/*.json`.

`python -m tests.contract.event_shapes` puts new events and added fields on record. It never
changes what is there: a change that breaks a reader is a new class with a higher `version`, beside
the old.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.events.catalogue import kinds
from shared.events.envelope import Payload

FOLDER = Path(__file__).parent / "events"
Shape = dict[str, Any]

# Words for people; they may change at any time.
_WORDS = frozenset({"title", "description"})


def shape_of(payload: type[Payload]) -> Shape:
    """Its JSON schema, without words, with every part in place."""
    schema = payload.model_json_schema(mode="validation")
    shape: Shape = _in_place(schema, schema.get("$defs", {}))
    return shape


def _in_place(node: Any, parts: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_in_place(each, parts) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        part = parts[node["$ref"].rpartition("/")[2]]
        return _in_place({**part, **{k: v for k, v in node.items() if k != "$ref"}}, parts)
    found = {
        key: _in_place(value, parts)
        for key, value in node.items()
        if key not in _WORDS and key not in ("$defs", "properties")
    }
    if "properties" in node:
        # Names of fields, which may be called as a word for people is.
        found["properties"] = {k: _in_place(v, parts) for k, v in node["properties"].items()}
    return found


def breaks(recorded: Any, now: Any, where: str = "") -> Iterator[str]:
    """What of `now` a reader of `recorded` may stumble over."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in sorted({*recorded, *now} - {"properties", "required"}):
            if key not in recorded or key not in now:
                yield f"{where or 'it'}: {key} came or went"
            else:
                yield from breaks(recorded[key], now[key], where)
        yield from _fields_that_break(recorded, now, where)
    elif isinstance(recorded, list) and isinstance(now, list) and len(recorded) == len(now):
        for before, after in zip(recorded, now, strict=True):
            yield from breaks(before, after, where)
    elif recorded != now:
        yield f"{where or 'it'}: {recorded!r} became {now!r}"


def _fields_that_break(recorded: Shape, now: Shape, where: str) -> Iterator[str]:
    before, after = recorded.get("properties", {}), now.get("properties", {})
    needed_before, needed_after = recorded.get("required", []), now.get("required", [])
    for name, field in before.items():
        place = f"{where}.{name}" if where else name
        if name not in after:
            yield f"{place} is gone"
            continue
        if (name in needed_before) != (name in needed_after):
            yield f"{place} is needed no more, or is now"
        yield from breaks(field, after[name], place)
    for name in after.keys() - before.keys():
        if name in needed_after:
            yield f"{where}.{name} came without a default" if where else f"{name} came without one"


def record() -> int:
    """How many events cannot be put on record as they are now."""
    FOLDER.mkdir(exist_ok=True)
    refused = 0
    for kind in kinds():
        file, shape = FOLDER / f"{kind.name}.json", shape_of(kind.payload)
        found = list(breaks(json.loads(file.read_text()), shape)) if file.exists() else []
        for trouble in found:
            sys.stderr.write(f"{kind.name}: {trouble}\n")
        refused += bool(found)
        if not found:
            file.write_text(json.dumps(shape, indent=1, sort_keys=True) + "\n")
    return refused


if __name__ == "__main__":
    sys.exit(1 if record() else 0)
