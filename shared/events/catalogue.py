"""Every event there is, found in the modules beside this one; whoever adds a class is in it."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import shared.events
from shared.bus.protocol import matches
from shared.bus.routes import Route, route_of
from shared.events.envelope import Payload


@dataclass(frozen=True, slots=True)
class Kind:
    """One event in one version. sender: the service that owns the type, or `agent`."""

    payload: type[Payload]

    @property
    def type(self) -> str:
        return self.payload.type

    @property
    def version(self) -> int:
        return self.payload.version

    @property
    def name(self) -> str:
        return f"{self.type}.v{self.version}"

    @property
    def sender(self) -> str:
        return self.type.partition(".")[0]

    @property
    def route(self) -> Route:
        return route_of(self.type)

    @property
    def meaning(self) -> str:
        """Its docstring, or the one of the base that it fills in; empty where the name says all."""
        bases = self.payload.__mro__[: self.payload.__mro__.index(Payload)]
        return next((inspect.cleandoc(base.__doc__) for base in bases if base.__doc__), "")


@cache
def kinds() -> tuple[Kind, ...]:
    """By type, then version. Raises ValueError when two classes claim the same."""
    package = shared.events
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found: dict[str, Kind] = {}
    for payload in _subclasses(Payload):
        # Tests make payloads of their own; bases that no type names are no events.
        if payload.__module__.startswith(f"{package.__name__}.") and hasattr(payload, "type"):
            kind = Kind(payload)
            if kind.name in found:
                raise ValueError(f"{kind.name}: {found[kind.name].payload} and {payload}")
            found[kind.name] = kind
    return tuple(sorted(found.values(), key=lambda kind: (kind.type, kind.version)))


def _subclasses(base: type[Payload]) -> Iterator[type[Payload]]:
    for payload in base.__subclasses__():
        yield payload
        yield from _subclasses(payload)


def facts(patterns: Iterable[str]) -> frozenset[str]:
    """The types of facts that any of these patterns asks for; orders and reports never."""
    wanted = tuple(patterns)
    return frozenset(
        kind.type
        for kind in kinds()
        if kind.route is Route.facts and any(matches(pattern, kind.type) for pattern in wanted)
    )
