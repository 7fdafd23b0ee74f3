"""F21, F22 without a broker: a bus that doubles, delays, shuffles and loses messages.

Facts arrive at least once, as every bus of ours promises, but up to five times, late and across
their order. Orders and reports, which promise nothing, are lost as well.
"""

import asyncio
import random
from collections.abc import Callable

import shared.bus.url
from shared.bus import MemoryBus, Undeliverable
from shared.bus.routes import Route, route_of
from shared.events.envelope import Envelope


class TroubledBus(MemoryBus):
    """trouble: 0 none, 1 all of it; may be changed at any time. mutes: what vanishes on the way.
    told: all that was ever published."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._copies: set[asyncio.Task[None]] = set()
        self.trouble = 1.0
        self.mutes: Callable[[Envelope], bool] = lambda _: False
        self.told: list[Envelope] = []

    async def publish(self, event: Envelope) -> None:
        self.told.append(event)
        if self.mutes(event):
            return
        if self._happens(0.3):
            await asyncio.sleep(self._chance.uniform(0, 0.1))
        is_state = route_of(event.type) is not Route.facts
        if is_state and self._happens(0.2):
            return
        if not is_state and self._happens(0.01):
            raise Undeliverable("lost before it was taken")
        await super().publish(event)
        if self._happens(0.3):
            for _ in range(self._chance.randint(1, 4)):
                self._again(event)
        if not is_state and self._happens(0.05):
            # Taken by all, and the publisher never hears so.
            raise Undeliverable("the confirmation is lost")

    async def replay(self, event: Envelope) -> None:
        """One more copy of what was told before, now."""
        await super().publish(event)

    async def calm(self) -> None:
        self.trouble = 0.0
        while self._copies:
            await asyncio.gather(*self._copies)

    def _happens(self, share: float) -> bool:
        return self._chance.random() < share * self.trouble

    def _again(self, event: Envelope) -> None:
        task = asyncio.create_task(self._late(event))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _late(self, event: Envelope) -> None:
        await asyncio.sleep(self._chance.uniform(0, 2.0))
        while True:
            try:
                return await super().publish(event)
            except Undeliverable:
                await asyncio.sleep(0.1)


def plant_bus(name: str, bus: MemoryBus) -> str:
    """Its URL: from now on every room in this process opens this one."""
    shared.bus.url._in_this_process[name] = bus
    return f"memory://{name}"
