"""What happens by itself: orders to agents, queues, deadlines, clearing."""

from functools import partial

from services.scheduler.contact import Contact
from services.scheduler.dismissing import drive_joining
from services.scheduler.ordering import Ordering
from services.scheduler.placing import place_waiting
from services.scheduler.reserving import give_back_forgotten
from services.scheduler.sweeping import sweep
from services.scheduler.tools import Tools
from shared.outbox import forget_published
from shared.worker import Worker

ORDERS_S = 1.0
CLEARING_S = 3600.0
RESERVATIONS_S = 30.0
JOINING_S = 10.0


def workers(tools: Tools) -> list[Worker]:
    settings, signals = tools.settings, tools.signals

    async def clear() -> None:
        async with tools.database.transaction() as session:
            await forget_published(session)

    orders = Ordering(tools).step
    queue = partial(place_waiting, tools)
    return [
        Worker("scheduler.orders", ORDERS_S, orders, signals.orders),
        Worker("scheduler.contact", settings.contact_s, Contact(tools).step),
        Worker("scheduler.queue", settings.sweep_s, queue, signals.capacity),
        Worker("scheduler.deadlines", settings.sweep_s, partial(sweep, tools)),
        Worker("scheduler.reservations", RESERVATIONS_S, partial(give_back_forgotten, tools)),
        Worker("scheduler.joining", JOINING_S, partial(drive_joining, tools), signals.joining),
        Worker("scheduler.clearing", CLEARING_S, clear),
    ]
