"""What happens by itself: orders to agents, queues, deadlines.

A request or a report wakes the workers of the copy that took it, so what they set off runs in every
copy, and is harmless there: rows are locked, orders are whole. What only time brings runs in one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from services.scheduler.accounting import clear_ends
from services.scheduler.contact import Contact
from services.scheduler.dismissing import drive_joining
from services.scheduler.ordering import Ordering, Resending
from services.scheduler.placing import place_waiting
from services.scheduler.reserving import give_back_forgotten
from services.scheduler.sweeping import sweep
from services.scheduler.tools import Tools
from shared.database import Database
from shared.worker import LoneWorker, Worker

ORDERS_S = 1.0
RESERVATIONS_S = 30.0
JOINING_S = 10.0
CLEARING_S = 3600.0


def workers(tools: Tools) -> list[Worker]:
    settings, signals = tools.settings, tools.signals

    async def forget_ends() -> None:
        async with tools.database.transaction() as session:
            await clear_ends(session)

    def alone(act: Callable[[Tools], Awaitable[None]]) -> Callable[[Database], Awaitable[None]]:
        async def step(database: Database) -> None:
            await act(replace(tools, database=database))

        return step

    queue = partial(place_waiting, tools)
    return [
        Worker("scheduler.changes", ORDERS_S, Ordering(tools).step, signals.orders),
        Worker("scheduler.contact", settings.contact_s, Contact(tools).step),
        Worker("scheduler.queue", settings.sweep_s, queue, signals.capacity),
        Worker("scheduler.joining", JOINING_S, partial(drive_joining, tools), signals.joining),
        LoneWorker("scheduler.orders", ORDERS_S, Resending(tools).step),
        LoneWorker("scheduler.deadlines", settings.sweep_s, alone(sweep)),
        LoneWorker("scheduler.reservations", RESERVATIONS_S, alone(give_back_forgotten)),
        Worker("scheduler.clearing", CLEARING_S, forget_ends),
    ]
