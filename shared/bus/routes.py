"""Which of three ways an event travels; a broker keeps them apart, each with rights of its own.

facts: what is true, for every service and for outside programs.
orders: what services tell agents; they hold secrets.
reports: what agents tell services.
"""

from enum import StrEnum

from shared.events.agent import ImagesWanted, NodeDesired

_ORDERS = frozenset({NodeDesired.type, ImagesWanted.type})


class Route(StrEnum):
    facts = "facts"
    orders = "orders"
    reports = "reports"


def route_of(event_type: str) -> Route:
    """Also of a pattern that names a type or begins with its owner."""
    if event_type in _ORDERS:
        return Route.orders
    return Route.reports if event_type.startswith("agent.") else Route.facts
